//! What this tier adds to the OpenAPI document: the limits in it are those in force.

use crate::{
    catalogue::Catalogue,
    config::{Ack, Config, Live},
    idempotency,
    refusal::Refusal,
};
use serde_json::{Map, Value, json};
use service::openapi::Part;
use std::sync::Arc;
use wire::{NameError, REACTION_BYTES_MAX, Reaction, RoomName};

const ROUTE: &str = "/v1/rooms/{room}/reactions";

/// This tier's operations under `config`, for the OpenAPI document of the process.
pub fn openapi(config: &Config) -> Part {
    let mut part = Part::default();
    let room = part.schema_of::<RoomName>();
    let room = if config.rooms.is_empty() { room } else { json!({ "type": "string", "enum": config.rooms }) };
    let body = body(config, &mut part);
    let content = json!({
        "application/json": { "schema": body, "examples": examples(config) },
        "text/plain": {
            "schema": {
                "type": "string",
                "format": "reactions",
                "contentMediaType": "application/json",
                "contentSchema": body,
            },
            "examples": examples_as_text(config),
        },
    });
    let operation = json!({
        "operationId": "postReactions",
        "summary": "Send reactions",
        "tags": ["reactions"],
        "description": "Counts reactions of a room. Clients sum their taps up and send them once a second or so.",
        "parameters": [{
            "name": "room", "in": "path", "required": true, "schema": room,
            "description": "The room. One that is declared, where rooms are.",
        }, idempotency_key(config)],
        "requestBody": {
            "required": true,
            "description": format!(
                "JSON in UTF-8 of at most {} bytes, without Content-Encoding, that names no member twice. Names that are one \
                 reaction, such as an emoji with and without a skin tone, are summed. As text/plain it \
                 is read in the same way: that is what navigator.sendBeacon can send without a preflight.",
                config.max_body_bytes
            ),
            "content": content,
        },
        "responses": responses(config, &mut part),
    });
    part.add("post", ROUTE, operation);
    part
}

fn idempotency_key(config: &Config) -> Value {
    let description = if config.max_idempotency_keys == 0 {
        "Not taken by this server.".to_owned()
    } else {
        format!(
            "A repeat with the same key, from the same client within {} ms, is not counted again, on this node.",
            config.idempotency_ttl_ms
        )
    };
    json!({
        "name": "Idempotency-Key", "in": "header", "required": false, "description": description,
        "schema": { "type": "string", "pattern": idempotency::pattern() },
        "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
    })
}

/// The schema of the body.
fn body(config: &Config, part: &mut Part) -> Value {
    let reaction = part.schema_of::<Reaction>();
    let catalogue = Catalogue::new(config);
    let reaction = if catalogue.list().is_empty() {
        reaction
    } else {
        json!({ "type": "string", "enum": catalogue.list() })
    };
    let count = json!({ "type": "integer", "minimum": 1, "maximum": config.max_count });
    let (mut counted, left_out) = (count.clone(), json!({ "type": "null" }));
    counted["type"] = json!(["integer", "null"]);
    // Not as `default`: for generators of clients what has one is always there, and would have to be sent.
    counted["description"] = json!("1 where it is left out or null.");
    let one = json!({
        "description": "One reaction, `count` times.",
        "type": "object",
        "required": ["reaction"],
        "properties": { "reaction": reaction, "count": counted, "reactions": left_out },
        "additionalProperties": false,
    });
    let several = json!({
        "description": "Several reactions, each with its count.",
        "type": "object",
        "required": ["reactions"],
        "properties": {
            "reactions": {
                "type": "object",
                "propertyNames": reaction,
                "additionalProperties": count,
                "minProperties": 1,
                "maxProperties": config.max_distinct_per_request,
            },
            "reaction": left_out,
            "count": left_out,
        },
        "additionalProperties": false,
    });
    let forms = [part.name("OneReaction", one), part.name("SeveralReactions", several)];
    part.name("Reactions", json!({ "oneOf": forms }))
}

/// One body of each form that is right under `config`.
fn forms(config: &Config) -> [(&'static str, Value); 3] {
    let catalogue = Catalogue::new(config);
    let mut reactions = catalogue.list().iter().map(|reaction| &**reaction).chain(["🔥", "👏"]);
    let mut next = || reactions.next().unwrap_or("🔥");
    let (one, two) = (next(), next());
    let count = config.max_count.min(7);
    let several = if config.max_distinct_per_request == 1 || catalogue.list().len() == 1 {
        json!({ one: count })
    } else {
        json!({ one: count, two: config.max_count.min(2) })
    };
    [
        ("one", json!({ "reaction": one })),
        ("oneCounted", json!({ "reaction": one, "count": count })),
        ("several", json!({ "reactions": several })),
    ]
}

fn examples(config: &Config) -> Map<String, Value> {
    forms(config).into_iter().map(|(name, form)| (name.to_owned(), json!({ "value": form }))).collect()
}

fn examples_as_text(config: &Config) -> Map<String, Value> {
    let texts = forms(config).into_iter();
    texts.map(|(name, form)| (name.to_owned(), json!({ "value": form.to_string() }))).collect()
}

fn responses(config: &Config, part: &mut Part) -> Map<String, Value> {
    let mut refusals = one_of_each(config);
    refusals.retain(|refusal| is_possible(refusal, config));
    let mut responses = part.responses(refusals.iter().map(|refusal| (refusal.cause(), refusal.problem())));
    let promise = match config.ack {
        Ack::Durable => "The reactions are durable, and will be counted exactly once.",
        Ack::Received => "The reactions were received; a crash may lose them.",
    };
    let accepted = json!({
        "description": promise,
        "content": { "application/json": {
            "schema": {
                "type": "object",
                "required": ["accepted"],
                "properties": { "accepted": {
                    "description": "How many reactions were accepted: the sum of the counts.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 1,
                    "maximum": config.max_count.saturating_mul(config.max_distinct_per_request as u64),
                } },
            },
            "example": { "accepted": config.max_count.min(7) },
        } },
    });
    responses.insert("202".into(), accepted);
    if let Some(wrong_method) = responses.get_mut("405") {
        wrong_method["headers"]["Allow"] = json!({ "required": true, "schema": { "const": "POST" } });
    }
    if config.rate_per_s > 0 || config.reactions_per_s > 0 {
        responses.iter_mut().for_each(|(_, response)| tell_limits(response));
    }
    responses
}

/// Adds the headers of draft-ietf-httpapi-ratelimit-headers-10.
fn tell_limits(response: &mut Value) {
    for (name, description, example) in [
        (
            "RateLimit",
            "What is left to this client: r now, and one more after t seconds.",
            "\"requests\";r=7;t=1",
        ),
        (
            "RateLimit-Policy",
            "What is allowed: q at once, which take w seconds to come back.",
            "\"requests\";q=20;w=2",
        ),
    ] {
        response["headers"][name] = json!({
            "description": description, "required": false, "schema": { "type": "string" }, "example": example,
        });
    }
}

/// A list of refusals that doesn't compile while one has no place in it.
macro_rules! refusals {
    ($($variant:ident $( ( $($value:expr),* ) )? $( { $($field:ident : $set:expr),* } )? ;)*) => {{
        const _: fn(&Refusal) = |refusal| match refusal { $(Refusal::$variant { .. } => {})* };
        vec![$(Refusal::$variant $( ( $($value),* ) )? $( { $($field : $set),* } )?),*]
    }};
}

/// Each refusal, with what it would say under `config`.
pub(crate) fn one_of_each(config: &Config) -> Vec<Refusal> {
    let live = Live::of(Arc::new(config.clone()));
    let reaction = || "🔥".to_owned();
    refusals! {
        RoomName(NameError::RoomCharacter('/'));
        RoomEncoding;
        Body("expected `:` at line 1 column 14".into());
        BodyBroken;
        BodySlow(config.ack_timeout_ms);
        BodyTooLong(config.max_body_bytes);
        Origin;
        RoomUnknown("ind-pak-semi".into());
        RoomClosed;
        RouteUnknown;
        Method;
        ContentType;
        ContentEncoding;
        NoReaction;
        Reaction(NameError::ReactionTooLong(REACTION_BYTES_MAX + 1));
        NotInCatalogue { reaction: reaction(), allowed: live.catalogue.text() };
        Count { reaction: reaction(), count: 0, max: config.max_count };
        TooManyReactions(config.max_distinct_per_request);
        OverBurst { count: config.reactions_burst + 1, burst: config.reactions_burst };
        KeyMalformed;
        KeysOff;
        KeyReused;
        TooFast { what: "requests", per_s: config.rate_per_s, wait_s: 1 };
        TooFastTogether { what: "requests", per_s: config.rate_per_s, wait_s: 1 };
        RoomTooDiverse(config.max_distinct_per_batch);
        RoomTooMany;
        Starting;
        Draining;
        TooManyWaiting(config.max_waiting);
        TooManyRooms(config.max_rooms);
        KeysShare { wait_s: 1 };
        KeysFull { max: config.max_idempotency_keys, wait_s: 1 };
        Stalled(config.stall_ms);
        NotWritten;
        TimedOut(config.ack_timeout_ms);
        Unknown;
    }
}

/// Whether a request may be refused like that under `config`.
fn is_possible(refusal: &Refusal, config: &Config) -> bool {
    match refusal {
        Refusal::RoomUnknown(_) => !config.rooms.is_empty(),
        Refusal::NotInCatalogue { .. } => !config.catalogue.is_empty(),
        Refusal::OverBurst { .. } => config.reactions_per_s > 0,
        Refusal::TooFast { .. } | Refusal::TooFastTogether { .. } => {
            config.rate_per_s > 0 || config.reactions_per_s > 0
        }
        Refusal::KeysOff => config.max_idempotency_keys == 0,
        Refusal::KeyMalformed | Refusal::KeyReused | Refusal::KeysShare { .. } | Refusal::KeysFull { .. } => {
            config.max_idempotency_keys > 0
        }
        Refusal::Origin => !config.cors_origins.is_any(),
        Refusal::NotWritten | Refusal::TimedOut(_) | Refusal::Unknown => config.ack == Ack::Durable,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::tests::config,
        metrics::{CAUSES, STATUSES},
        request,
    };
    use service::openapi::document;
    use std::collections::BTreeSet;

    fn of(config: &Config) -> Value {
        document(&json!({ "title": "t", "version": "1" }), [openapi(config)])
    }

    fn operation(document: &Value) -> &Value {
        &document["paths"][ROUTE]["post"]
    }

    fn narrow() -> Config {
        Config {
            max_count: 3,
            max_distinct_per_request: 1,
            rooms: vec!["final".into()],
            catalogue: vec!["👏".into()],
            ack: Ack::Received,
            ..config()
        }
    }

    #[test]
    fn every_refusal_is_counted_from_zero_on() {
        let refusals = one_of_each(&config());
        let causes: BTreeSet<_> = refusals.iter().map(Refusal::cause).collect();
        assert_eq!(causes, BTreeSet::from(CAUSES));
        let mut statuses: BTreeSet<_> = refusals.iter().map(|it| it.problem().status().to_string()).collect();
        statuses.insert("202 Accepted".into());
        let statuses: BTreeSet<_> = statuses.iter().map(|status| &status[..3]).collect();
        assert_eq!(statuses, BTreeSet::from(STATUSES));
    }

    #[test]
    fn every_refusal_is_a_response_and_names_the_limit_in_force() {
        let document = of(&config());
        let responses = &operation(&document)["responses"];
        for refusal in one_of_each(&config()).into_iter().filter(|it| is_possible(it, &config())) {
            let status = refusal.problem().status().as_u16().to_string();
            let problem = &responses[&status]["content"]["application/problem+json"];
            let examples = problem["examples"].as_object().unwrap();
            let known = examples.iter().any(|(name, example)| {
                name.starts_with(refusal.cause()) && example["value"]["detail"] == refusal.to_string()
            });
            assert!(known, "{refusal:?}: {examples:?}");
        }
        assert_eq!(responses["405"]["headers"]["Allow"]["schema"]["const"], "POST");
        assert_eq!(responses["503"]["headers"]["Retry-After"]["required"], true);
        assert!(responses["413"].to_string().contains("4096 bytes"), "{responses}");
    }

    #[test]
    fn refusals_that_can_not_come_are_no_responses() {
        let causes = |config: &Config| -> BTreeSet<_> {
            let all = one_of_each(config);
            all.iter().filter(|it| is_possible(it, config)).map(Refusal::cause).collect()
        };
        let list = || vec!["x".to_owned()];
        let too_fast = ["too_fast", "too_fast_together"];
        let keys = ["idempotency_full", "idempotency_key", "idempotency_reused", "idempotency_share"];
        let usual = causes(&config());
        for (config, more, less) in [
            (Config { rooms: list(), ..config() }, vec!["room_unknown"], vec![]),
            (Config { cors_origins: vec![].into(), ..config() }, vec!["origin"], vec![]),
            (Config { catalogue: list(), ..config() }, vec!["not_in_catalogue"], vec![]),
            (Config { rate_per_s: 1, ..config() }, too_fast.into(), vec![]),
            (Config { reactions_per_s: 1, ..config() }, [&["over_burst"][..], &too_fast].concat(), vec![]),
            (Config { max_idempotency_keys: 0, ..config() }, vec!["idempotency_off"], keys.into()),
            (Config { ack: Ack::Received, ..config() }, vec![], vec!["not_written", "timed_out", "unknown"]),
        ] {
            let here = causes(&config);
            assert_eq!(here.difference(&usual).copied().collect::<Vec<_>>(), more);
            assert_eq!(usual.difference(&here).copied().collect::<Vec<_>>(), less);
        }
    }

    #[test]
    fn the_key_is_described_as_it_is_taken() {
        let key = |config: &Config| operation(&of(config))["parameters"][1].clone();
        let taken = key(&config());
        assert_eq!(taken["name"], "Idempotency-Key");
        assert!(taken["description"].to_string().contains("within 30000 ms"), "{taken}");
        assert_eq!(taken["schema"]["pattern"], idempotency::pattern());
        assert_eq!(idempotency::pattern().matches("{1,64}").count(), 2, "bare, and in quotes");
        let off = key(&Config { max_idempotency_keys: 0, ..config() });
        assert_eq!(off["description"], "Not taken by this server.");
    }

    #[test]
    fn what_is_left_to_a_client_is_said_where_there_is_a_limit() {
        let limits = |config: &Config, status: &str| {
            let document = of(config);
            let headers = &operation(&document)["responses"][status]["headers"];
            [headers["RateLimit"].is_object(), headers["RateLimit-Policy"].is_object()]
        };
        let limited = [Config { rate_per_s: 1, ..config() }, Config { reactions_per_s: 1, ..config() }];
        for config in &limited {
            assert_eq!((limits(config, "202"), limits(config, "429")), ([true; 2], [true; 2]));
            assert_eq!(limits(config, "415"), [true; 2]);
        }
        assert_eq!(limits(&config(), "202"), [false; 2]);
    }

    #[test]
    fn limits_and_lists_are_those_in_force() {
        let narrow = of(&narrow());
        let schemas = &narrow["components"]["schemas"];
        assert_eq!(operation(&narrow)["parameters"][0]["schema"]["enum"], json!(["final"]));
        assert_eq!(schemas["OneReaction"]["properties"]["reaction"]["enum"], json!(["👏"]));
        assert_eq!(schemas["OneReaction"]["properties"]["count"]["maximum"], 3);
        assert_eq!(schemas["SeveralReactions"]["properties"]["reactions"]["maxProperties"], 1);
        assert_eq!(operation(&narrow)["responses"]["504"], Value::Null, "nobody waits for the log");
        let wide = of(&config());
        let schemas = &wide["components"]["schemas"];
        assert_eq!(schemas["RoomName"]["pattern"], "^[A-Za-z0-9._~-]{1,64}$");
        assert_eq!(schemas["Reaction"]["maxLength"], REACTION_BYTES_MAX);
    }

    #[test]
    fn the_examples_are_accepted() {
        let one_alone = Config { catalogue: vec!["👏".into()], ..config() };
        let one_at_once = Config { max_distinct_per_request: 1, ..config() };
        for (config, several) in [(config(), 2), (narrow(), 1), (one_alone, 1), (one_at_once, 1)] {
            let live = Live::of(Arc::new(config.clone()));
            assert_eq!(forms(&config)[2].1["reactions"].as_object().unwrap().len(), several);
            for (name, form) in forms(&config) {
                assert!(request::parse(form.to_string().as_bytes(), &live, None).is_ok(), "{name}");
            }
            let document = of(&config);
            let content = &operation(&document)["requestBody"]["content"];
            assert_eq!(content["application/json"]["examples"].as_object().unwrap().len(), 3);
            assert_eq!(content["text/plain"]["examples"].as_object().unwrap().len(), 3);
        }
    }
}
