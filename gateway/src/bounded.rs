//! A map with a bound: the oldest entry makes room for a new one.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

#[derive(Debug)]
pub struct Bounded<K, V> {
    entries: HashMap<K, V>,
    /// The oldest first.
    order: VecDeque<K>,
    max: usize,
}

impl<K: Copy + Eq + Hash, V> Bounded<K, V> {
    pub fn new(max: usize) -> Bounded<K, V> {
        Bounded {
            entries: HashMap::new(),
            order: VecDeque::new(),
            max,
        }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    pub fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let mut map = Bounded::new(2);
        map.insert(1, 'a');
        map.insert(2, 'b');
        map.insert(1, 'c');
        map.insert(3, 'd');
        assert_eq!(
            [map.get(&1), map.get(&2), map.get(&3)],
            [None, Some(&'b'), Some(&'d')]
        );
    }
}
