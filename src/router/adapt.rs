//! A zoo changes between two runs: models and service levels are matched by name, the new ones start fresh.

use super::config::RouterConfig;

/// For every place of the new configuration, its place in the old one.
#[derive(Clone, Debug, PartialEq)]
pub struct Remap {
    models: Vec<Option<usize>>,
    slas: Vec<Option<usize>>,
    old_models: usize,
}

impl Remap {
    /// A model keeps what was learnt about it if its name and its size are the same.
    pub fn between(old: &RouterConfig, new: &RouterConfig) -> Self {
        let models = new
            .models
            .iter()
            .map(|m| old.models.iter().position(|o| o == m))
            .collect();
        let slas = new
            .slas
            .iter()
            .map(|s| old.slas.iter().position(|o| o.name == s.name))
            .collect();
        Self {
            models,
            slas,
            old_models: old.models.len(),
        }
    }

    pub fn same_models(&self) -> bool {
        self.models.len() == self.old_models && self.models.iter().enumerate().all(|(n, o)| *o == Some(n))
    }

    /// Rearranges a list that has one entry per model.
    pub fn models<T: Clone>(&self, old: &[T], fresh: impl FnMut(usize) -> T) -> Vec<T> {
        pick(old, &self.models, fresh)
    }

    /// Rearranges a list that has one entry per service level.
    pub fn slas<T: Clone>(&self, old: &[T], fresh: impl FnMut(usize) -> T) -> Vec<T> {
        pick(old, &self.slas, fresh)
    }

    /// Where the old configuration's model stands now.
    pub fn model(&self, old: usize) -> Option<usize> {
        self.models.iter().position(|o| *o == Some(old))
    }

    /// Where the old configuration's service level stands now.
    pub fn sla(&self, old: usize) -> Option<usize> {
        self.slas.iter().position(|o| *o == Some(old))
    }
}

fn pick<T: Clone>(old: &[T], places: &[Option<usize>], mut fresh: impl FnMut(usize) -> T) -> Vec<T> {
    let entry = |(new, place): (usize, &Option<usize>)| match place.and_then(|p| old.get(p)) {
        Some(kept) => kept.clone(),
        None => fresh(new),
    };
    places.iter().enumerate().map(entry).collect()
}
