//! Ids that say what they are of: `ch_` and `pm_` before 32 hexadecimal digits.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// What an id is of.
pub trait Kind {
    const PREFIX: &'static str;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OfCharge {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OfMethod {}

impl Kind for OfCharge {
    const PREFIX: &'static str = "ch_";
}

impl Kind for OfMethod {
    const PREFIX: &'static str = "pm_";
}

pub type ChargeId = Id<OfCharge>;
pub type MethodId = Id<OfMethod>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id<K>(Uuid, PhantomData<K>);

impl<K> Id<K> {
    /// A new one; later ones sort behind earlier ones.
    pub fn generate() -> Id<K> {
        Id(Uuid::now_v7(), PhantomData)
    }

    pub fn uuid(&self) -> Uuid {
        self.0
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", K::PREFIX, self.0.simple())
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Id<K>, &'static str> {
        let digits = text.strip_prefix(K::PREFIX).ok_or("not such an id")?;
        let uuid = Uuid::try_parse(digits).map_err(|_| "not such an id")?;
        Ok(Id(uuid, PhantomData))
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id<K>, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
