//! A small cache with a bound on what it keeps.
//!
//! Two generations: when the young one is full it becomes the old one, and the old one is dropped.
//! What is read in between moves back to the young one, so what is used stays.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Keeps values up to twice `weight_max`. Values are cheap to clone.
#[derive(Debug)]
pub struct Cache<K, V> {
    generations: Mutex<Generations<K, V>>,
    weight_max: usize,
}

#[derive(Debug)]
struct Generations<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    weight: usize,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// Each generation holds values up to that weight, in the unit that `insert` is given.
    pub fn new(weight_max: usize) -> Cache<K, V> {
        let generations = Generations {
            young: HashMap::new(),
            old: HashMap::new(),
            weight: 0,
        };
        Cache {
            generations: Mutex::new(generations),
            weight_max,
        }
    }

    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let mut generations = self.lock();
        if let Some((value, _)) = generations.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, weight)) = generations.old.remove_entry(key)?;
        self.put(&mut generations, key, value.clone(), weight);
        Some(value)
    }

    /// Keeps a value. One that is heavier than a whole generation is still kept, alone.
    pub fn insert(&self, key: K, value: V, weight: usize) {
        self.put(&mut self.lock(), key, value, weight);
    }

    /// Forgets a value.
    pub fn remove<Q: Eq + Hash + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let mut generations = self.lock();
        if let Some((_, weight)) = generations.young.remove(key) {
            generations.weight -= weight;
        }
        generations.old.remove(key);
    }

    fn put(&self, generations: &mut Generations<K, V>, key: K, value: V, weight: usize) {
        if generations.weight + weight > self.weight_max && !generations.young.is_empty() {
            generations.old = mem::take(&mut generations.young);
            generations.weight = 0;
        }
        generations.weight += weight;
        if let Some((_, replaced)) = generations.young.insert(key, (value, weight)) {
            generations.weight -= replaced;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations<K, V>> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_keeps_more_than_two_generations() {
        let cache = Cache::new(10);
        for number in 0..1_000 {
            cache.insert(number, number, 1);
        }
        let kept = (0..1_000).filter(|number| cache.get(number).is_some());
        assert!(kept.count() <= 20);
        assert_eq!(cache.get(&999), Some(999));
    }

    #[test]
    fn what_is_used_stays() {
        let cache = Cache::new(10);
        cache.insert(-1, "used", 1);
        for number in 0..1_000 {
            cache.insert(number, "once", 1);
            assert_eq!(cache.get(&-1), Some("used"));
        }
    }

    #[test]
    fn a_removed_value_is_gone() {
        let cache = Cache::new(10);
        cache.insert("a", 1, 1);
        cache.remove("a");
        assert_eq!(cache.get("a"), None);
    }
}
