//! The values in force as an operator may see them: without secrets.

use super::layers::{Layers, Sources};
use toml::{Table, Value};

/// Replaces a secret.
const HIDDEN: &str = "(hidden)";
/// Parts of the names of keys whose values nobody should read over somebody's shoulder. Options of librdkafka are among the keys.
const SECRETS: [&str; 7] = ["password", "secret", "token", "key", "jaas", "credential", "pem"];

/// The layers on top of each other as TOML, with secrets hidden. Sources that can't be read are left out: the caller has loaded them
/// before, and only shows what it took.
pub fn shown(defaults: &str, sources: &Sources) -> String {
    let (mut values, _) = Layers::stacked(defaults.parse().unwrap_or_default(), sources).finish();
    hide(&mut values);
    toml::to_string(&values).unwrap_or_default()
}

fn hide(table: &mut Table) {
    for (key, value) in table.iter_mut() {
        let name = key.to_ascii_lowercase();
        match value {
            Value::Table(inner) => hide(inner),
            Value::String(text) if !text.is_empty() && SECRETS.iter().any(|secret| name.contains(secret)) => {
                *text = HIDDEN.to_owned();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_all_else_is_shown() {
        let defaults = "[a]\npassword = ''\nn = 1\n[a.options]\n";
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("uproar.toml");
        let text = "[a]\npassword = 'hunter2'\nn = 7\n[a.options]\n'sasl.password' = 'hunter2'\n'ssl.key.pem' = 'hunter2'\n\
                    'sasl.jaas.config' = 'hunter2'\n'sasl.username' = 'uproar'\n";
        std::fs::write(&file, text).unwrap();
        let shown = shown(defaults, &Sources { file: Some(file), ..Sources::default() });
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(shown.matches(HIDDEN).count(), 4, "{shown}");
        assert!(shown.contains("n = 7") && shown.contains("\"sasl.username\" = \"uproar\""), "{shown}");
    }

    #[test]
    fn an_empty_secret_is_seen_to_be_empty() {
        assert_eq!(shown("[a]\npassword = ''\n", &Sources::default()), "[a]\npassword = \"\"\n");
    }
}
