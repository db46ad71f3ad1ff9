//! Where values come from, and how they are put on top of each other.

use super::load::{ConfigError, ConfigErrors};
use std::{ffi::OsString, path::PathBuf};
use toml::{Table, Value};

/// What was given besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file of `--config`.
    pub file: Option<PathBuf>,
    /// The environment; only `UPROAR__SECTION__KEY` counts.
    pub env: Vec<(OsString, OsString)>,
    /// `section.key=value` of each `--set`.
    pub sets: Vec<String>,
}

const ENV_PREFIX: &str = "UPROAR__";

/// The values so far, and the shape that the defaults give them.
pub(super) struct Layers {
    shape: Table,
    values: Table,
    pub(super) errors: ConfigErrors,
}

impl Layers {
    pub(super) fn on(defaults: Table) -> Self {
        Self { shape: defaults.clone(), values: defaults, errors: ConfigErrors::default() }
    }

    /// All layers of `sources` on top of the defaults.
    pub(super) fn stacked(defaults: Table, sources: &Sources) -> Self {
        let mut layers = Self::on(defaults);
        if let Some(path) = &sources.file {
            layers.add_file(path);
        }
        layers.add_env(&sources.env);
        for (index, set) in sources.sets.iter().enumerate() {
            layers.add_set(index + 1, set);
        }
        layers
    }

    pub(super) fn add_file(&mut self, path: &std::path::Path) {
        let origin = format!("file {}", path.display());
        let parsed = std::fs::read_to_string(path)
            .map_err(|error| error.to_string())
            .and_then(|text| text.parse::<Table>().map_err(|error| where_and_why(&text, &error)));
        match parsed {
            Ok(table) => self.add(table, &origin),
            Err(problem) => self.errors.push(ConfigError { key: String::new(), origin, problem }),
        }
    }

    pub(super) fn add_env(&mut self, env: &[(OsString, OsString)]) {
        for (name, text) in env {
            // Names and values may be any bytes; those of others don't matter.
            let name = name.to_string_lossy();
            let Some(path) = name.strip_prefix(ENV_PREFIX) else { continue };
            let origin = format!("environment {name}");
            let Some(text) = text.to_str() else {
                let problem = "must be UTF-8".into();
                self.errors.push(ConfigError { key: String::new(), origin, problem });
                continue;
            };
            let path: Vec<_> = path.split("__").map(str::to_lowercase).collect();
            self.add_text(&path, text, &origin, |key| key.replace('_', "."));
        }
    }

    pub(super) fn add_set(&mut self, number: usize, set: &str) {
        match set.split_once('=') {
            Some((path, text)) => {
                // Without the value: it may be a secret under a key that is misspelt.
                let origin = format!("--set {path}");
                let path: Vec<_> = path.trim().split('.').map(str::to_owned).collect();
                self.add_text(&path, text, &origin, |key| key);
            }
            None => {
                // Not quoted: a secret may stand behind something else than `=`.
                let (origin, problem) =
                    (format!("--set, number {number}"), "must be section.key=value".into());
                self.errors.push(ConfigError { key: String::new(), origin, problem });
            }
        }
    }

    pub(super) fn finish(self) -> (Table, ConfigErrors) {
        (self.values, self.errors)
    }

    fn add(&mut self, over: Table, origin: &str) {
        merge(&mut self.values, &self.shape, over, "", origin, &mut self.errors);
    }

    /// A value given as text: the default's type says how it is read. What a path has beyond an open section is one
    /// key of it; `open_key` gives that key its spelling.
    fn add_text(&mut self, path: &[String], text: &str, origin: &str, open_key: impl Fn(String) -> String) {
        let Some((last, sections)) = path.split_last() else { return };
        let as_text = Value::String(text.to_owned());
        let mut hint = None;
        let (sections, key, value) = match place(&self.shape, path) {
            Place::Open(depth) => (&path[..depth], open_key(path[depth..].join(".")), as_text),
            Place::Key(Value::String(_)) => (sections, last.clone(), as_text),
            Place::Key(default) => {
                hint = how_to_write(default);
                (sections, last.clone(), parse(text))
            }
            Place::Unknown => (sections, last.clone(), parse(text)),
        };
        let known = self.errors.len();
        self.add(nest(sections, Table::from_iter([(key, value)])), origin);
        if let Some(hint) = hint {
            self.errors.add_hint(known, hint);
        }
    }
}

/// How a value is written that is given as text, where that is not plain.
fn how_to_write(default: &Value) -> Option<&'static str> {
    match default {
        Value::Array(_) => Some(r#"write a list as ["a","b"], an empty one as []"#),
        Value::Boolean(_) => Some("write true or false"),
        Value::Integer(_) => Some("write digits, such as 2000"),
        Value::Float(_) => Some("write a number with a point, such as 0.5"),
        _ => None,
    }
}

/// Where a file is not TOML, and why. The line is not quoted, as the message of the library does: it may hold a secret, and
/// this text goes to the log.
fn where_and_why(text: &str, error: &toml::de::Error) -> String {
    let why = error.message().trim().replace('\n', ", ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return format!("not TOML: {why}");
    };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("not TOML at line {line}, column {column}: {why}")
}

/// Where a path leads.
enum Place<'a> {
    /// To a key with this default.
    Key(&'a Value),
    /// Into an open section, whose own path has this many parts.
    Open(usize),
    /// Nowhere.
    Unknown,
}

fn place<'a>(shape: &'a Table, path: &[String]) -> Place<'a> {
    let mut table = shape;
    for (depth, key) in path.iter().enumerate() {
        match table.get(key) {
            _ if table.is_empty() => return Place::Open(depth),
            Some(Value::Table(inner)) => table = inner,
            Some(default) if depth + 1 == path.len() => return Place::Key(default),
            _ => return Place::Unknown,
        }
    }
    Place::Unknown
}

/// `text` as TOML would read it; text that is no TOML value is a string.
fn parse(text: &str) -> Value {
    let parsed = format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn nest(sections: &[String], inner: Table) -> Table {
    sections
        .iter()
        .rev()
        .fold(inner, |inner, section| Table::from_iter([(section.clone(), Value::Table(inner))]))
}

/// Puts `over` on top of `values`. A key that `shape` doesn't have is unknown, as every key has a default; a section
/// that is empty by default is open: it takes any keys.
fn merge(
    values: &mut Table,
    shape: &Table,
    over: Table,
    prefix: &str,
    origin: &str,
    errors: &mut ConfigErrors,
) {
    for (key, value) in over {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let problem = match (shape.get(&key), values.get_mut(&key), value) {
            (Some(Value::Table(shape)), Some(Value::Table(values)), Value::Table(value))
                if shape.is_empty() =>
            {
                values.extend(value);
                continue;
            }
            (Some(Value::Table(shape)), Some(Value::Table(values)), Value::Table(value)) => {
                merge(values, shape, value, &path, origin, errors);
                continue;
            }
            (Some(default), Some(slot), value) if same_type(default, &value) => {
                *slot = value;
                continue;
            }
            (Some(default), _, value) => {
                format!("must be {}, is {}", a(default.type_str()), a(value.type_str()))
            }
            (None, _, _) => {
                let known: Vec<_> = shape.keys().map(String::as_str).collect();
                format!("is unknown here; known are: {}", known.join(", "))
            }
        };
        errors.push(ConfigError { key: path, origin: origin.to_owned(), problem });
    }
}

fn same_type(left: &Value, right: &Value) -> bool {
    std::mem::discriminant(left) == std::mem::discriminant(right)
}

fn a(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {}", if kind == "table" { "section" } else { kind })
}
