//! Values of the right type that are still none, such as the name of an adapter that doesn't exist: each is an error of its own,
//! and makes place for the default, so that the others can be checked.

use super::load::{ConfigError, ConfigErrors};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// A value that is not the default.
struct Difference {
    path: Vec<String>,
    value: Value,
    /// Of a key of an open section there is none.
    default: Option<Value>,
}

/// Puts the default in place of each value that makes `T` impossible.
pub(super) fn mend<T: DeserializeOwned>(values: &mut Table, defaults: &Table, errors: &mut ConfigErrors) {
    for Difference { path, value, default } in differences(values, defaults) {
        let mut alone = defaults.clone();
        put(&mut alone, &path, Some(value));
        if let Err(error) = alone.try_into::<T>() {
            let problem = format!("is not right: {}", error.message());
            errors.push(ConfigError { key: path.join("."), origin: String::new(), problem });
            put(values, &path, default);
        }
    }
}

fn differences(values: &Table, defaults: &Table) -> Vec<Difference> {
    let mut all = Vec::new();
    for (key, value) in values {
        match (value, defaults.get(key)) {
            (_, Some(default)) if value == default => {}
            (Value::Table(values), Some(Value::Table(defaults))) => {
                all.extend(differences(values, defaults).into_iter().map(|mut inner| {
                    inner.path.insert(0, key.clone());
                    inner
                }));
            }
            (value, default) => {
                let (value, default) = (value.clone(), default.cloned());
                all.push(Difference { path: vec![key.clone()], value, default });
            }
        }
    }
    all
}

/// `None` takes the key away.
fn put(table: &mut Table, path: &[String], value: Option<Value>) {
    match (path, value) {
        ([], _) => {}
        ([key], Some(value)) => {
            table.insert(key.clone(), value);
        }
        ([key], None) => {
            table.remove(key);
        }
        ([section, rest @ ..], value) => {
            if let Some(Value::Table(inner)) = table.get_mut(section) {
                put(inner, rest, value);
            }
        }
    }
}
