//! Finds every value that serde refuses, such as the name of an adapter that doesn't exist. Each is reported, and gives place
//! to the default, so that the remaining checks can run.

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
            let problem = format!("is invalid: {}", without_value(error.message()));
            errors.push(ConfigError { key: path.join("."), origin: String::new(), problem });
            put(values, &path, default);
        }
    }
}

/// What serde says of a value, without the value: it may be a secret, and this text goes to the log.
pub(super) fn without_value(message: &str) -> String {
    // Forms of serde::de::Error: "invalid type: string \"x\", expected ...", "unknown variant `x`, expected ...". The value may
    // hold the same words, so the last ones count.
    let Some((found, expected)) = message.rsplit_once(", expected ") else {
        return "it can't be read (the reason may hold the value, and is not shown)".into();
    };
    let kind = found.split(['`', '"']).next().unwrap_or_default().trim_end();
    let known = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant", "unknown field"];
    match known.iter().any(|known| kind.starts_with(known)) {
        true => format!("{kind}, expected {expected}"),
        false => format!("expected {expected}"),
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
