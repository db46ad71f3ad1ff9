//! `uproar room`: the client of the admin API.

mod request;

use crate::{check::print, cli::Failure};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use request::{Server, ask};
use serde_json::{Map, Value, json};
use std::{fmt::Write as _, path::PathBuf};

/// Where the token is looked for.
const TOKEN: &str = "UPROAR_ADMIN_TOKEN";
/// Where the address is looked for.
const ADMIN: &str = "UPROAR_ADMIN";

pub(crate) const HELP: &str = "The token is one of section [admin] of the server's configuration. \
Put it into UPROAR_ADMIN_TOKEN rather than into --token, which other users of this machine can see.

Examples:
  export UPROAR_ADMIN_TOKEN=...                        produce or operate; list needs view only
  uproar room close final                              posts are refused, viewers see that it is closed
  uproar room open final                               takes reactions again
  uproar room set final --post-ms 5000                 slow mode: clients post every 5 s
  uproar room set final --reactions 🔥,👏,😂           only these, in this order
  uproar room set final --post-ms default              takes slow mode back
  uproar room list                                     rooms with orders
  uproar room --admin http://10.0.0.7:9090 list        another process; any process of a cluster will do

Exit codes: 0 done; 1 refused, or nobody answers; 2 wrong options.";

#[derive(Debug, Args)]
pub(crate) struct RoomArgs {
    /// Admin listener of any process; UPROAR_ADMIN where it is left out, then http://127.0.0.1:9090
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Token; UPROAR_ADMIN_TOKEN where it is left out
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    #[command(subcommand)]
    order: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Close a room: posts are refused
    Close { room: String },
    /// Open a room, or declare it
    Open { room: String },
    /// Change settings of a room; what is left out stays
    Set(SetArgs),
    /// Forget all that was ordered of a room (needs the role operate)
    Forget { room: String },
    /// Show the rooms that have orders
    List,
}

#[derive(Debug, Args)]
struct SetArgs {
    room: String,
    /// How often its clients post, in ms: slow mode; `default` takes it back
    #[arg(long, value_name = "MS")]
    post_ms: Option<String>,
    /// The reactions that it allows, in their order, separated by commas; `all` allows all, `default` takes it back
    #[arg(long, value_name = "LIST", conflicts_with = "catalogue")]
    reactions: Option<String>,
    /// A JSON file with the same and names and images: [{"reaction":"🔥","name":"Fire","image":"https://..."}]
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
}

/// Gives the order, and prints what came of it.
pub(crate) fn run(args: RoomArgs) -> Result<(), Failure> {
    let text = act(args).map_err(Failure::Running)?;
    print(&text)
}

fn act(args: RoomArgs) -> anyhow::Result<String> {
    let from_env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let address = args.admin.or_else(|| from_env(ADMIN)).unwrap_or_else(|| "http://127.0.0.1:9090".into());
    let token = args.token.or_else(|| from_env(TOKEN));
    let token = token.with_context(|| format!("no token: set {TOKEN}, or pass --token"))?;
    let server = Server::new(&address, &token)?;
    let path = |room: &str| -> anyhow::Result<String> {
        wire::RoomName::check(room)?;
        Ok(format!("/admin/v1/rooms/{room}"))
    };
    match args.order {
        Order::List => Ok(table(&ask(&server, "GET", "/admin/v1/rooms", None)?)),
        Order::Close { room } => put(&server, &path(&room)?, &json!({ "state": "closed" })),
        Order::Open { room } => put(&server, &path(&room)?, &json!({ "state": "open" })),
        Order::Set(set) => put(&server, &path(&set.room)?, &set.body()?),
        Order::Forget { room } => {
            ask(&server, "DELETE", &path(&room)?, None)?;
            Ok(format!("{room}: forgotten\n"))
        }
    }
}

fn put(server: &Server, path: &str, body: &Value) -> anyhow::Result<String> {
    let room = ask(server, "PUT", path, Some(body.to_string()))?;
    Ok(table(&json!({ "rooms": [room] })))
}

impl SetArgs {
    fn body(&self) -> anyhow::Result<Value> {
        let mut body = Map::new();
        if let Some(text) = &self.post_ms {
            let post_ms = match text.as_str() {
                "default" => Value::Null,
                ms => {
                    ms.parse::<u64>().with_context(|| format!("--post-ms {ms:?} is no number of ms"))?.into()
                }
            };
            body.insert("post_ms".into(), post_ms);
        }
        let catalogue = match (&self.reactions, &self.catalogue) {
            (Some(list), _) => Some(match list.as_str() {
                "default" => Value::Null,
                "all" => json!([]),
                list => list.split(',').map(|reaction| json!({ "reaction": reaction.trim() })).collect(),
            }),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
                Some(serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))?)
            }
            (None, None) => None,
        };
        body.extend(catalogue.map(|catalogue| ("catalogue".into(), catalogue)));
        if body.is_empty() {
            bail!("nothing to set: pass --post-ms, --reactions or --catalogue");
        }
        Ok(body.into())
    }
}

/// The rooms of an answer, one a line.
fn table(answer: &Value) -> String {
    let rooms = answer["rooms"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rooms.is_empty() {
        return "no room has orders\n".into();
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows = rooms.iter().map(|room| {
        let post_ms = if room["post_ms"].is_null() { "default".into() } else { text(&room["post_ms"]) };
        let reactions = match room["catalogue"].as_array().map(Vec::as_slice) {
            None => "default".into(),
            Some([]) => "all".into(),
            Some(some) => some.iter().map(|entry| text(&entry["reaction"])).collect::<Vec<_>>().join(" "),
        };
        [text(&room["room"]), text(&room["state"]), post_ms, text(&room["version"]), reactions]
    });
    let heads = ["ROOM", "STATE", "POST_MS", "VERSION", "REACTIONS"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heads).chain(rows).collect();
    // The last column needs no width: emoji have widths that nobody knows.
    let widths: Vec<_> = (0..4).map(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or(0)).collect();
    let mut table = String::new();
    for [room, state, post_ms, version, reactions] in &rows {
        // Writing to a String can't fail.
        let _ = writeln!(
            table,
            "{room:<0$}  {state:<1$}  {post_ms:>2$}  {version:>3$}  {reactions}",
            widths[0], widths[1], widths[2], widths[3]
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_a_table() {
        let rooms = json!({ "rooms": [
            { "room": "ind-pak-final", "state": "closed", "post_ms": 5000, "catalogue": [{ "reaction": "🔥" }, { "reaction": "👏" }], "version": 12 },
            { "room": "semi", "state": "open", "post_ms": null, "catalogue": null, "version": 3 },
        ] });
        assert_eq!(
            table(&rooms),
            "ROOM           STATE   POST_MS  VERSION  REACTIONS\n\
             ind-pak-final  closed     5000       12  🔥 👏\n\
             semi           open    default        3  default\n"
        );
        assert_eq!(table(&json!({ "rooms": [] })), "no room has orders\n");
    }

    #[test]
    fn what_is_set_is_sent_and_the_rest_is_left_out() {
        let set = |post_ms: Option<&str>, reactions: Option<&str>| {
            let args = SetArgs {
                room: "final".into(),
                post_ms: post_ms.map(Into::into),
                reactions: reactions.map(Into::into),
                catalogue: None,
            };
            args.body().map_err(|error| error.to_string())
        };
        assert_eq!(set(Some("5000"), None), Ok(json!({ "post_ms": 5000 })));
        assert_eq!(set(Some("default"), Some("default")), Ok(json!({ "post_ms": null, "catalogue": null })));
        let two = json!({ "catalogue": [{ "reaction": "🔥" }, { "reaction": "👏" }] });
        assert_eq!(set(None, Some("🔥, 👏")), Ok(two));
        assert_eq!(set(None, Some("all")), Ok(json!({ "catalogue": [] })));
        assert!(set(Some("soon"), None).unwrap_err().contains("no number of ms"));
        assert!(set(None, None).unwrap_err().contains("nothing to set"));
    }
}
