//! Values of the right type that are still none, such as the name of an adapter that doesn't exist: each is an error of its own,
//! and makes place for the default, so that the others can be checked.

use super::load::{ConfigError, ConfigErrors};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Puts the default in place of each value that makes `T` impossible.
pub(super) fn mend<T: DeserializeOwned>(values: &mut Table, defaults: &Table, errors: &mut ConfigErrors) {
    for path in differences(values, defaults) {
        let mut alone = defaults.clone();
        put(&mut alone, &path, get(values, &path).cloned());
        if let Err(error) = alone.try_into::<T>() {
            let problem = format!("is not right: {}", error.message());
            errors.push(ConfigError { key: path.join("."), origin: String::new(), problem });
            put(values, &path, get(defaults, &path).cloned());
        }
    }
}

/// Paths of the values that are not the defaults.
fn differences(values: &Table, defaults: &Table) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (key, value) in values {
        match (value, defaults.get(key)) {
            (_, Some(default)) if value == default => {}
            (Value::Table(values), Some(Value::Table(defaults))) => {
                let inner = differences(values, defaults).into_iter();
                paths.extend(inner.map(|path| [vec![key.clone()], path].concat()));
            }
            _ => paths.push(vec![key.clone()]),
        }
    }
    paths
}

fn get<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (key, rest) = path.split_first()?;
    let value = table.get(key)?;
    if rest.is_empty() { Some(value) } else { get(value.as_table()?, rest) }
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
