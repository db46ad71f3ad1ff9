//! Layers of configuration, as operators see them.

use super::*;
use serde::Deserialize;
use std::collections::BTreeMap;

const DEFAULTS: &str = r#"
[window]
interval_ms = 2000
name = "a"
rooms = []
ratio = 0.5
unit = "second"
[log]
[log.options]
"#;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Config {
    window: Section,
    log: Log,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Section {
    interval_ms: u32,
    name: String,
    rooms: Vec<String>,
    ratio: f64,
    unit: Unit,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Second,
    Minute,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Log {
    options: BTreeMap<String, String>,
}

fn load_with(file: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Config, ConfigErrors> {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&path, file).unwrap();
    let sources = Sources {
        file: Some(path.path().to_owned()),
        env: env.iter().map(|(k, v)| (k.into(), v.into())).collect(),
        sets: sets.iter().map(|s| (*s).to_owned()).collect(),
    };
    load(DEFAULTS, &sources, |config: &Config, refuse| {
        if config.window.unit == Unit::Second && config.log.options.contains_key("minutes") {
            refuse("window.unit", "must be \"minute\"".into());
        }
        if config.window.interval_ms < 100 {
            refuse("window.interval_ms", "must be at least 100".into());
        }
    })
}

fn interval(file: &str, env: &[(&str, &str)], sets: &[&str]) -> u32 {
    load_with(file, env, sets).unwrap().window.interval_ms
}

#[test]
fn a_later_layer_wins() {
    let file = "[window]\ninterval_ms = 3000";
    let env = [("UPROAR__WINDOW__INTERVAL_MS", "4000"), ("HOME", "/")];
    assert_eq!(interval("", &[], &[]), 2000);
    assert_eq!(interval(file, &[], &[]), 3000);
    assert_eq!(interval(file, &env, &[]), 4000);
    assert_eq!(interval(file, &env, &["window.interval_ms=5000"]), 5000);
}

#[test]
fn text_is_read_as_the_type_of_the_default() {
    let config = load_with("", &[("UPROAR__WINDOW__NAME", "12")], &[r#"window.rooms=["x","y"]"#]).unwrap();
    assert_eq!(config.window.name, "12");
    assert_eq!(config.window.rooms, ["x", "y"]);
}

#[test]
fn an_open_section_takes_any_keys_also_with_dots() {
    let file = "[log.options]\n\"security.protocol\" = \"SSL\"";
    let config = load_with(file, &[], &[]).unwrap();
    assert_eq!(config.log.options["security.protocol"], "SSL");
    let config = load_with("", &[], &["log.options.security.protocol=SSL", "log.options.debug=all"]).unwrap();
    assert_eq!(config.log.options["security.protocol"], "SSL");
    assert_eq!(config.log.options["debug"], "all");
    let config = load_with(file, &[("UPROAR__LOG__OPTIONS__SSL_CA_LOCATION", "/ca")], &[]).unwrap();
    assert_eq!(config.log.options["ssl.ca.location"], "/ca");
    assert_eq!(config.log.options["security.protocol"], "SSL");
}

#[test]
fn all_errors_come_at_once_and_name_their_source() {
    let file = "[window]\ninterval_ms = 50\ninterval = 3\nname = 7\n[widow]\nx = 1";
    let errors = load_with(file, &[("UPROAR__WINDOW__RATIO", "much")], &["nonsense"]).unwrap_err();
    let lines: Vec<_> = errors.lines().collect();
    let expected = [
        "widow is unknown here; known are: log, window (file",
        "window.interval is unknown here; known are: interval_ms, name, ratio, rooms, unit (file",
        "window.name must be a string, is an integer (file",
        "window.ratio must be a float, is a string; write a number with a point, such as 0.5 (environment UPROAR__WINDOW__RATIO)",
        "--set, number 1: must be section.key=value",
        "window.interval_ms must be at least 100",
    ];
    for want in expected {
        assert!(lines.iter().any(|line| line.starts_with(want)), "{want}\n{errors}");
    }
    assert_eq!(lines.len(), expected.len(), "{errors}");
}

#[test]
fn a_value_that_is_none_by_its_name_keeps_no_other_error_back() {
    let file = "[window]\ninterval_ms = 50\nunit = \"hour\"\nrooms = [\"a\", 7]\n[log.options]\ndebug = 1\nx = \"y\"";
    let errors = load_with(file, &[], &[]).unwrap_err();
    let lines: Vec<_> = errors.lines().collect();
    let expected = [
        "log.options.debug is invalid: invalid type: integer, expected a string",
        "window.rooms is invalid: invalid type: integer, expected a string",
        "window.unit is invalid: unknown variant, expected `second` or `minute`",
        "window.interval_ms must be at least 100",
    ];
    assert_eq!(lines, expected);
    let unit = |unit: &str| {
        let sets = [&format!("window.unit={unit}"), "log.options.minutes=x"];
        load_with("", &[], &sets).unwrap_err().lines().collect::<Vec<_>>()
    };
    assert_eq!(unit("second"), ["window.unit must be \"minute\""]);
    assert_eq!(unit("hour").len(), 1, "the default that takes its place is nobody's error");
    assert_eq!(load_with("", &[], &["window.unit=minute"]).unwrap().window.unit, Unit::Minute);
}

#[cfg(unix)]
#[test]
fn variables_of_others_may_be_any_bytes_and_ours_are_text() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};
    let odd = || OsString::from_vec(vec![0xff]);
    let with = |name: OsString| {
        let sources = Sources { env: vec![(name, odd())], ..Sources::default() };
        load::<Config>(DEFAULTS, &sources, |_, _| ()).map_err(|errors| errors.to_string())
    };
    assert!(with("FOO".into()).is_ok());
    assert!(with(odd()).is_ok());
    assert_eq!(
        with("UPROAR__WINDOW__NAME".into()).unwrap_err(),
        "environment UPROAR__WINDOW__NAME: must be UTF-8"
    );
}

#[test]
fn a_file_that_is_no_toml_is_one_error_that_says_where() {
    let errors = load_with("[window\n", &[], &[]).unwrap_err();
    assert!(errors.to_string().contains("line 1"), "{errors}");
}

#[test]
fn no_error_quotes_a_value_that_may_be_a_secret() {
    const SECRET: &str = "hunter2";
    let files = [
        "[log.options]\npassword = \"hunter2\n",
        "[log.options]\npassword = hunter2\n",
        "[log.options]\npassword = 'hunter2\n",
        "[log.options]\npassword = \"\"\"hunter2",
        "[log.options]\npassword = \"a\" hunter2\n",
        "[log.options]\npassword = \"hunter2\\q\"\n",
        "[log.options]\npassword \"hunter2\"\n",
        "[log.options]\npassword: hunter2\n",
        "[log.options]\npassword = [\"hunter2\"\n",
        "[log.options]\npassword = {a = \"hunter2\", a = 1}\n",
        "[log.options]\npassword = [\"hunter2\"]\n",
        "[log.options]\npassword = {a = \"hunter2\"}\n",
        "[log]\noptions = \"hunter2\"\n",
        "log = \"hunter2\"\n",
        "[window]\ninterval_ms = \"hunter2\"\nname = [\"hunter2\"]\nrooms = \"hunter2\"\nratio = \"hunter2\"",
        "[window]\nunit = \"hunter2\"\n",
        "[window]\nunit = \"x, expected hunter2\"\n",
        "[window]\npasswrd = \"hunter2\"\n",
        "[log.options]\npassword = \"hunter2\"\npassword = \"hunter2\"\n",
        "\u{1}hunter2",
    ];
    for file in files {
        let errors = load_with(file, &[], &[]).unwrap_err().to_string();
        assert!(!errors.contains(SECRET), "{file}\n{errors}");
    }
    for value in ["hunter2", "[hunter2", "\"hunter2", "hunter2=hunter2", "[\"hunter2\"]", "{a=\"hunter2\"}"] {
        for key in ["interval_ms", "ratio", "unit", "passwrd", "rooms.x"] {
            let env = format!("UPROAR__WINDOW__{}", key.to_uppercase().replace('.', "__"));
            let set = format!("window.{key}={value}");
            for errors in [load_with("", &[(&env, value)], &[]), load_with("", &[], &[&set])] {
                let errors = errors.unwrap_err().to_string();
                assert!(!errors.contains(SECRET), "{key} {value}\n{errors}");
            }
        }
    }
    let errors = load_with("", &[], &["log.options.password:hunter2"]).unwrap_err().to_string();
    assert!(!errors.contains(SECRET), "{errors}");
}

#[test]
fn a_file_that_is_no_toml_has_its_line_and_column() {
    let errors = load_with("[log.options]\n# é\npassword = \"é\n", &[], &[]).unwrap_err().to_string();
    assert!(errors.contains("not TOML at line 3, column "), "{errors}");
    let errors = load_with("[log.options]\npassword = x\n", &[], &[]).unwrap_err().to_string();
    assert!(errors.contains("line 2, column 12: string values must be quoted"), "{errors}");
}

#[test]
fn a_value_in_a_variable_is_refused_with_how_to_write_it() {
    let of = |key: &str, value: &str| load_with("", &[(key, value)], &[]).unwrap_err().to_string();
    for text in ["a,b", "a", ""] {
        assert!(
            of("UPROAR__WINDOW__ROOMS", text).contains(r#"; write a list as ["a","b"], an empty one as []"#),
            "{text}"
        );
    }
    assert!(of("UPROAR__WINDOW__INTERVAL_MS", "2s").contains("; write digits, such as 2000"));
    let rooms = load_with("", &[("UPROAR__WINDOW__ROOMS", r#"["a","b"]"#)], &[]).unwrap().window.rooms;
    assert_eq!(rooms, ["a", "b"]);
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let sources = Sources { file: Some("/nowhere/uproar.toml".into()), ..Sources::default() };
    let errors = load::<Config>(DEFAULTS, &sources, |_, _| ()).unwrap_err();
    assert!(errors.to_string().contains("/nowhere/uproar.toml"), "{errors}");
}
