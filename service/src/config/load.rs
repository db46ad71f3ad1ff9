//! From sources to a checked value.

use super::{
    layers::{Layers, Sources},
    mend::{mend, without_value},
};
use serde::de::DeserializeOwned;
use std::fmt;
use toml::Table;

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The key, such as `aggregator.interval_ms`; empty where a whole source can't be read.
    pub key: String,
    /// Who said so: a file, a variable, an option; empty where it follows from several.
    pub origin: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(super) fn push(&mut self, error: ConfigError) {
        self.0.push(error);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a hint to each error from number `from` on.
    pub(super) fn add_hint(&mut self, from: usize, hint: &str) {
        for error in &mut self.0[from..] {
            error.problem = format!("{}; {hint}", error.problem);
        }
    }

    /// One line each.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(ToString::to_string)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.as_str(), self.origin.as_str()) {
            ("", origin) => write!(f, "{origin}: {}", self.problem),
            (key, "") => write!(f, "{key} {}", self.problem),
            (key, origin) => write!(f, "{key} {} ({origin})", self.problem),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

/// Puts the layers on top of each other, reads them as `T`, and lets `validate` check it. `validate` is given a
/// function that takes a key and what is wrong with its value.
pub fn load<T: DeserializeOwned>(
    defaults: &str,
    sources: &Sources,
    validate: impl FnOnce(&T, &mut dyn FnMut(&str, String)),
) -> Result<T, ConfigErrors> {
    let broken = |problem: String| {
        let error = ConfigError { key: String::new(), origin: "configuration".into(), problem };
        ConfigErrors(vec![error])
    };
    let defaults: Table = defaults.parse().map_err(|error: toml::de::Error| broken(error.to_string()))?;
    let (mut values, mut errors) = Layers::stacked(defaults.clone(), sources).finish();
    let made = values.clone().try_into().or_else(|_| {
        mend::<T>(&mut values, &defaults, &mut errors);
        values.try_into()
    });
    let value: T = match made {
        Ok(value) => value,
        Err(error) => {
            errors.0.extend(broken(without_value(error.message())).0);
            return Err(errors);
        }
    };
    // In place of a value that is none stands the default, of which nobody wants to hear.
    let wrong: Vec<_> = errors.0.iter().map(|error| error.key.clone()).collect();
    validate(&value, &mut |key, problem| {
        if !wrong.iter().any(|wrong| wrong == key) {
            errors.push(ConfigError { key: key.to_owned(), origin: String::new(), problem });
        }
    });
    if errors.0.is_empty() { Ok(value) } else { Err(errors) }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
