//! The body of a request: read strictly, so that a client learns of its mistake, and cheaply.

use crate::{
    config::{CountOverMax, Live},
    refusal::Refusal,
};
use control::Room;
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Unexpected, Visitor},
};
use smallvec::{SmallVec, smallvec};
use std::{borrow::Cow, fmt};
use wire::{COUNT_MAX, Reaction, json};

/// Longest part of a reader's message that goes into an answer: it may quote the body.
const MESSAGE_CHARS_MAX: usize = 200;

/// The reader of JSON has the last word on counts of more than 15 digits.
const PLAIN_COUNT_MAX: u64 = 999_999_999_999_999;

/// What a request asks to count. Valid: at least one reaction, each in its canonical form and once, allowed, and with a count
/// within the limits.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) reactions: SmallVec<[(Reaction, u64); 4]>,
    /// The sum.
    pub(crate) count: u64,
}

/// Reactions and their counts as they stand in a body. Most have few.
type List<'a> = SmallVec<[(Cow<'a, str>, u64); 4]>;

/// Reads a body. `own`: what is ordered of its room.
pub(crate) fn parse(body: &[u8], live: &Live, own: Option<&Room>) -> Result<Ask, Refusal> {
    let max_distinct = live.config.max_distinct_per_request;
    let pairs = match plain(body, max_distinct) {
        Some(list) => Pairs { list, surplus: false },
        None => read(body, max_distinct)?,
    };
    if pairs.surplus {
        return Err(Refusal::TooManyReactions(max_distinct));
    }
    if pairs.list.is_empty() {
        return Err(Refusal::NoReaction);
    }
    let mut ask = Ask::default();
    ask.reactions.reserve(pairs.list.len());
    for (text, count) in pairs.list {
        ask.add(&text, count, live, own)?;
    }
    for (reaction, count) in &mut ask.reactions {
        *count = allowed_count(reaction, *count, live)?;
        // 256 reactions of 1,000,000 at the most: far from the end of u64.
        ask.count += *count;
    }
    Ok(ask)
}

impl Ask {
    /// Adds a reaction as it was sent. The limits of its count are those of its sum.
    fn add(&mut self, text: &str, count: u64, live: &Live, own: Option<&Room>) -> Result<(), Refusal> {
        let reaction = live.catalogue.take(text, own)?;
        if count == 0 {
            return Err(refused_count(&reaction, count, live));
        }
        match self.reactions.iter_mut().find(|(known, _)| *known == reaction) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => self.reactions.push((reaction, count)),
        }
        Ok(())
    }
}

/// `{"reaction":"🔥"}` or `{"reactions":{"🔥":7,"👏":2}}`, written just so. That is what comes most, and it needs no reader of
/// JSON. `None` for all else, and for what is wrong.
fn plain(body: &[u8], max_distinct: usize) -> Option<List<'_>> {
    if let Some(rest) = body.strip_prefix(b"{\"reaction\":") {
        let (reaction, rest) = json::text(rest)?;
        return (rest == b"}").then(|| smallvec![(reaction.into(), 1)]);
    }
    let mut rest = body.strip_prefix(b"{\"reactions\":{")?;
    let mut list = List::new();
    loop {
        let (reaction, colon) = json::text(rest)?;
        let (count, end) = json::number(colon.strip_prefix(b":")?)?;
        let is_odd = count > PLAIN_COUNT_MAX || list.len() == max_distinct;
        if is_odd || list.iter().any(|(known, _)| known == reaction) {
            return None;
        }
        list.push((reaction.into(), count));
        match end {
            b"}}" => return Some(list),
            [b',', next @ ..] => rest = next,
            _ => return None,
        }
    }
}

fn read(body: &[u8], max_distinct: usize) -> Result<Pairs<'_>, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    Body { max_distinct }
        .deserialize(&mut reader)
        .and_then(|pairs| reader.end().map(|()| pairs))
        .map_err(|error| Refusal::Body(error.to_string().chars().take(MESSAGE_CHARS_MAX).collect()))
}

/// The count of a reaction, lowered where counts over the limit are to be.
fn allowed_count(reaction: &Reaction, count: u64, live: &Live) -> Result<u64, Refusal> {
    let max = live.config.max_count;
    match live.config.count_over_max {
        CountOverMax::Clamp => Ok(count.min(max)),
        CountOverMax::Refuse if count > max => Err(refused_count(reaction, count, live)),
        CountOverMax::Refuse => Ok(count),
    }
}

fn refused_count(reaction: &Reaction, count: u64, live: &Live) -> Refusal {
    Refusal::Count { reaction: reaction.to_string(), count, max: live.config.max_count }
}

/// Reactions as they stand in the body.
struct Pairs<'a> {
    list: List<'a>,
    /// There are more, which were not kept.
    surplus: bool,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Reaction,
    Count,
    Reactions,
}

/// A string that is borrowed from the body where it holds no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A count; its limits are checked later.
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number above 0")
            }
            fn visit_u64<E>(self, number: u64) -> Result<Count, E> {
                Ok(Count(number))
            }
            // JSON has one kind of number, and 7.0 is whole: some languages write it so.
            fn visit_f64<E: Error>(self, number: f64) -> Result<Count, E> {
                if number.fract() == 0.0 && (0.0..=COUNT_MAX as f64).contains(&number) {
                    return Ok(Count(number as u64));
                }
                Err(E::invalid_value(Unexpected::Float(number), &self))
            }
        }
        deserializer.deserialize_u64(Number)
    }
}

/// The whole body.
struct Body {
    max_distinct: usize,
}

impl<'de> DeserializeSeed<'de> for Body {
    type Value = Pairs<'de>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Pairs<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `reaction` or `reactions`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
        let (mut reaction, mut count, mut reactions) = (None, None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Reaction if reaction.is_some() => return Err(A::Error::duplicate_field("reaction")),
                Field::Count if count.is_some() => return Err(A::Error::duplicate_field("count")),
                Field::Reactions if reactions.is_some() => {
                    return Err(A::Error::duplicate_field("reactions"));
                }
                Field::Reaction => {
                    reaction = Some(map.next_value::<Option<Text<'de>>>()?.map(|text| text.0));
                }
                Field::Count => count = Some(map.next_value::<Option<Count>>()?.map(|count| count.0)),
                Field::Reactions => {
                    let max_distinct = self.max_distinct;
                    reactions = Some(map.next_value_seed(Nullable(Reactions { max_distinct }))?);
                }
            }
        }
        match (reaction.flatten(), count.flatten(), reactions.flatten()) {
            (Some(reaction), count, None) => {
                Ok(Pairs { list: smallvec![(reaction, count.unwrap_or(1))], surplus: false })
            }
            (None, None, Some(pairs)) => Ok(pairs),
            (Some(_), _, Some(_)) => Err(A::Error::custom("`reaction` and `reactions` exclude each other")),
            (None, Some(_), Some(_)) => {
                Err(A::Error::custom("`count` goes with `reaction`; within `reactions` each has its own"))
            }
            (None, _, None) => Err(A::Error::custom("neither `reaction` nor `reactions` is there")),
        }
    }
}

/// A value that may be `null`: many serialisers write that for a member that is left out.
struct Nullable<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nullable<S> {
    type Value = Option<S::Value>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Nullable<S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.deserialize(deserializer).map(Some)
    }
}

/// The object `reactions`.
struct Reactions {
    max_distinct: usize,
}

impl<'de> DeserializeSeed<'de> for Reactions {
    type Value = Pairs<'de>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Pairs<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Reactions {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of reactions and their counts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
        let mut pairs = Pairs { list: List::new(), surplus: false };
        while let Some(Text(reaction)) = map.next_key()? {
            // Past the limit nothing is kept or compared, so that a long body can't cost more than its length.
            if pairs.list.len() == self.max_distinct {
                pairs.surplus = true;
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if pairs.list.iter().any(|(known, _)| *known == reaction) {
                return Err(A::Error::custom(format_args!("{reaction:?} stands twice in `reactions`")));
            }
            let Count(count) = map.next_value()?;
            pairs.list.push((reaction, count));
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::{parse as parse_of, *};
    use crate::config::{Config, tests::config};
    use proptest::prelude::*;
    use std::sync::Arc;
    use wire::control::{CatalogueEntry, RoomOrder};

    fn parse(body: &[u8], live: &Live) -> Result<Ask, Refusal> {
        parse_of(body, live, None)
    }

    fn live() -> Live {
        Live::of(Arc::new(Config { max_distinct_per_request: 3, ..config() }))
    }

    fn reads(body: &str) -> Vec<(String, u64)> {
        let ask = parse(body.as_bytes(), &live()).unwrap();
        assert_eq!(ask.count, ask.reactions.iter().map(|(_, n)| n).sum::<u64>());
        ask.reactions.iter().map(|(reaction, n)| (reaction.to_string(), *n)).collect()
    }

    #[test]
    fn the_three_forms_are_read_in_any_order_and_spacing() {
        assert_eq!(reads(r#"{"reaction":"🔥"}"#), [("🔥".into(), 1)]);
        assert_eq!(reads(r#" { "count" : 7 , "reaction" : "\ud83d\udd25" } "#), [("🔥".into(), 7)]);
        assert_eq!(reads(r#"{"reactions":{"🔥":7,"👏":2}}"#), [("🔥".into(), 7), ("👏".into(), 2)]);
    }

    #[test]
    fn null_says_that_a_member_is_left_out() {
        assert_eq!(reads(r#"{"reaction":"🔥","count":null,"reactions":null}"#), [("🔥".into(), 1)]);
        assert_eq!(reads(r#"{"reaction":null,"count":null,"reactions":{"🔥":7}}"#), [("🔥".into(), 7)]);
    }

    #[test]
    fn what_comes_most_needs_no_reader_of_json() {
        let reads = |body: &str| plain(body.as_bytes(), 3).map(|list| list.len());
        assert_eq!(reads(r#"{"reaction":"🔥"}"#), Some(1));
        assert_eq!(reads(r#"{"reactions":{"🔥":7,"👏":999999999999999,"a b":0}}"#), Some(3));
        for other in [
            r#"{"reaction":"a" }"#,
            r#"{"reaction":"\u0061"}"#,
            r#"{"reactions":{}}"#,
            r#"{"reactions":{"a":1,"a":1}}"#,
            r#"{"reactions":{"a":01}}"#,
            r#"{"reactions":{"a":1,}}"#,
            r#"{"reactions":{"a":1000000000000000}}"#,
            r#"{"reactions":{"a":1,"b":1,"c":1,"d":1}}"#,
            r#"{"reactions":{"a":1}} "#,
        ] {
            assert_eq!(reads(other), None, "{other}");
        }
    }

    #[test]
    fn a_whole_number_may_be_written_as_languages_do_that_know_floats_only() {
        assert_eq!(reads(r#"{"reactions":{"🔥":7.0,"👏":2e1}}"#), [("🔥".into(), 7), ("👏".into(), 20)]);
        let refusal = parse(br#"{"reaction":"a","count":-0.0}"#, &live()).unwrap_err();
        assert!(matches!(refusal, Refusal::Count { count: 0, .. }), "{refusal:?}");
    }

    #[test]
    fn a_malformed_body_is_refused_with_what_was_wrong_and_where() {
        for (body, why) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{", "EOF while parsing an object at line 1 column 1"),
            ("hello", "line 1 column 1"),
            ("[]", "expected an object with `reaction` or `reactions`"),
            ("{}", "neither `reaction` nor `reactions` is there at line 1 column 2"),
            (r#"{"count":1}"#, "neither"),
            (r#"{"reaction":"a"} x"#, "trailing characters at line 1 column 18"),
            (r#"{"reaction":7}"#, "invalid type: integer `7`, expected a string at line 1 column 13"),
            (r#"{"reaction":null}"#, "neither"),
            (r#"{"reaction":null,"reaction":"a"}"#, "duplicate field `reaction`"),
            (r#"{"reactions":{"a":null}}"#, "invalid type: null"),
            (r#"{"reaction":"a","count":"1"}"#, "expected a whole number above 0 at line 1"),
            (r#"{"reaction":"a","count":1.5}"#, "expected a whole number"),
            (r#"{"reaction":"a","count":-1}"#, "expected a whole number"),
            (r#"{"reaction":"a","count":18446744073709551616}"#, "expected a whole number"),
            (r#"{"reaction":"a","count":1e300}"#, "expected a whole number"),
            (r#"{"reaction":"a","user":"u"}"#, "unknown field `user`, expected one of `reaction`"),
            (r#"{"reaction":"a","reactions":{"b":1}}"#, "exclude each other"),
            (r#"{"count":1,"reactions":{"b":1}}"#, "`count` goes with `reaction`"),
            (r#"{"reaction":"a","reaction":"b"}"#, "duplicate field `reaction`"),
            (r#"{"reaction":"a","count":1,"count":1}"#, "duplicate field `count`"),
            (r#"{"reactions":{"a":1},"reactions":{"a":1}}"#, "duplicate field `reactions`"),
            (r#"{"reactions":{"🔥":1,"\ud83d\udd25":1}}"#, "\"🔥\" stands twice in `reactions` at line 1"),
            (r#"{"reactions":["a"]}"#, "expected an object of reactions and their counts"),
            ("{\n\"reactions\":{\"a\":{}}}", "at line 2 column"),
        ] {
            let refusal = parse(body.as_bytes(), &live()).unwrap_err();
            assert!(matches!(&refusal, Refusal::Body(text) if text.contains(why)), "{body}: {refusal:?}");
        }
        assert!(matches!(parse(b"{\"reaction\":\"\xff\"}", &live()), Err(Refusal::Body(_))));
    }

    #[test]
    fn a_message_that_quotes_the_body_is_cut() {
        let body = format!("{{\"{}\":1}}", "x".repeat(4_000));
        let Err(Refusal::Body(text)) = parse(body.as_bytes(), &live()) else { panic!("read") };
        assert_eq!(text.chars().count(), MESSAGE_CHARS_MAX);
    }

    #[test]
    fn more_reactions_than_allowed_are_refused_whatever_their_values() {
        let refusal = parse(br#"{"reactions":{"a":1,"b":1,"c":1,"d":null,"e":0}}"#, &live());
        assert_eq!(refusal, Err(Refusal::TooManyReactions(3)));
        assert_eq!(parse(br#"{"reactions":{}}"#, &live()), Err(Refusal::NoReaction));
    }

    #[test]
    fn counts_have_limits() {
        for count in [0, 1_001, u64::MAX] {
            let body = format!(r#"{{"reaction":"a","count":{count}}}"#);
            let refusal = Refusal::Count { reaction: "a".into(), count, max: 1_000 };
            assert_eq!(parse(body.as_bytes(), &live()), Err(refusal));
        }
        assert_eq!(reads(r#"{"reaction":"a","count":1000}"#), [("a".into(), 1_000)]);
    }

    #[test]
    fn counts_over_the_limit_can_be_clamped_to_it_and_zero_stays_a_mistake() {
        let config = Config { count_over_max: CountOverMax::Clamp, ..config() };
        let live = Live::of(Arc::new(config));
        let ask = parse(r#"{"reactions":{"a":1001,"b":1000,"c":18446744073709551615}}"#.as_bytes(), &live);
        assert_eq!(ask.unwrap().count, 3_000);
        let refusal = Refusal::Count { reaction: "a".into(), count: 0, max: 1_000 };
        assert_eq!(parse(br#"{"reaction":"a","count":0}"#, &live), Err(refusal));
    }

    #[test]
    fn only_the_catalogue_is_allowed_where_there_is_one() {
        let live = Live::of(Arc::new(Config { catalogue: vec!["🔥".into(), "👏".into()], ..config() }));
        assert!(parse(r#"{"reaction":"👏"}"#.as_bytes(), &live).is_ok());
        let refusal = parse(r#"{"reactions":{"🔥":1,"💩":1}}"#.as_bytes(), &live).unwrap_err();
        assert_eq!(refusal.to_string(), "\"💩\" is not in the catalogue; allowed are: 🔥 👏");
    }

    #[test]
    fn the_catalogue_of_a_room_stands_in_for_that_of_all_rooms() {
        let live = Live::of(Arc::new(Config { catalogue: vec!["🔥".into()], ..config() }));
        let own = |catalogue: &[&str]| {
            let entry = |reaction: &&str| CatalogueEntry {
                reaction: reaction.parse().unwrap(),
                name: None,
                image: None,
            };
            let order = RoomOrder::new("final".parse().unwrap(), "produce", 1);
            Room::new(RoomOrder { catalogue: Some(catalogue.iter().map(entry).collect()), ..order }, 1)
        };
        let only = own(&["❤", "👏"]);
        assert!(parse_of(r#"{"reactions":{"❤️":1,"👏🏽":2}}"#.as_bytes(), &live, Some(&only)).is_ok());
        let refusal = parse_of(r#"{"reaction":"🔥"}"#.as_bytes(), &live, Some(&only)).unwrap_err();
        assert_eq!(refusal.to_string(), "\"🔥\" is not in the catalogue; allowed are: ❤ 👏");
        let poo = r#"{"reaction":"💩"}"#.as_bytes();
        assert!(parse_of(poo, &live, Some(&own(&[]))).is_ok(), "all are allowed");
        let plain = Room::new(RoomOrder::new("final".parse().unwrap(), "produce", 1), 1);
        assert!(parse_of(poo, &live, Some(&plain)).is_err(), "as everywhere");
    }

    #[test]
    fn names_of_one_reaction_are_summed_and_the_limit_is_of_the_sum() {
        assert_eq!(reads(r#"{"reactions":{"❤":2,"❤️":3}}"#), [("❤️".into(), 5)]);
        assert_eq!(reads(r#"{"reactions":{"👏":1,"🔥":2,"👏🏽":3}}"#), [("👏".into(), 4), ("🔥".into(), 2)]);
        let body = r#"{"reactions":{"👏":600,"👏🏽":401}}"#;
        let refusal = Refusal::Count { reaction: "👏".into(), count: 1_001, max: 1_000 };
        assert_eq!(parse(body.as_bytes(), &live()), Err(refusal));
        let body = r#"{"reactions":{"👏":18446744073709551615,"👏🏽":18446744073709551615}}"#;
        assert!(matches!(parse(body.as_bytes(), &live()), Err(Refusal::Count { count: u64::MAX, .. })));
        let body = r#"{"reactions":{"👏":1,"👏🏽":0}}"#;
        assert!(matches!(parse(body.as_bytes(), &live()), Err(Refusal::Count { count: 0, .. })));
        let clamp = Config { count_over_max: CountOverMax::Clamp, ..config() };
        let ask = parse(r#"{"reactions":{"👏":600,"👏🏽":401}}"#.as_bytes(), &Live::of(Arc::new(clamp)));
        assert_eq!(ask.unwrap().count, 1_000);
    }

    #[test]
    fn tones_are_kept_where_the_configuration_says_so() {
        let live = Live::of(Arc::new(Config { fold_skin_tones: false, ..config() }));
        let ask = parse(r#"{"reactions":{"👏":1,"👏🏽":2,"❤":3,"❤️":4}}"#.as_bytes(), &live).unwrap();
        let read: Vec<_> = ask.reactions.iter().map(|(reaction, n)| (&**reaction, *n)).collect();
        assert_eq!(read, [("👏", 1), ("👏🏽", 2), ("❤️", 7)]);
    }

    #[test]
    fn a_reaction_that_is_invisible_or_turns_text_round_is_refused_with_a_clear_text() {
        let cases =
            [(" ", "that can be seen"), (r"\u200b", "that can be seen"), (r"a\u202e", "may not hold U+202E")];
        for (text, why) in cases {
            let body = format!(r#"{{"reaction":"{text}"}}"#);
            let refusal = parse(body.as_bytes(), &live()).unwrap_err();
            assert!(
                matches!(refusal, Refusal::Reaction(_)) && refusal.to_string().contains(why),
                "{refusal}"
            );
        }
    }

    fn jsonish() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"reaction\"",
            "\"reactions\"",
            "\"count\"",
            "\"🔥\"",
            "\"\"",
            "0",
            "7",
            "-1",
            "1e9",
            "null",
            "true",
            "\"\\u0000\"",
            " ",
            "\\",
            "\"",
        ]);
        prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
    }

    /// Read the short way or not, a body says the same, and what is read is valid.
    fn is_read_as_any_reader_of_json_would(body: &[u8]) {
        // A space before it makes it another form.
        let (read, otherwise) = (parse(body, &live()), parse(&[b" ", body].concat(), &live()));
        if let Ok(ask) = &read {
            assert!((1..=3).contains(&ask.reactions.len()), "{ask:?}");
            assert!(ask.reactions.iter().all(|(_, n)| (1..=1_000).contains(n)), "{ask:?}");
            assert_eq!(ask.count, ask.reactions.iter().map(|(_, n)| n).sum::<u64>());
        }
        match (read, otherwise) {
            // The place of the mistake is another one.
            (Err(Refusal::Body(_)), Err(Refusal::Body(_))) => {}
            (read, otherwise) => assert_eq!(read, otherwise),
        }
    }

    #[test]
    fn fuzz_bodies() {
        bolero::check!().for_each(is_read_as_any_reader_of_json_would);
    }

    proptest! {
        #[test]
        fn what_comes_most_is_read_as_any_reader_of_json_would(
            texts in prop::collection::vec(prop_oneof!["[ab]", ".{0,20}", r#"[a"\\\\u0-9{}:,\x00-\x20\x7f]{0,8}"#], 1..5),
            counts in prop::collection::vec(prop_oneof!["[0-9]{1,4}", "[0-9]{14,21}", "[-0-9.e]{0,3}"], 4),
            end in prop_oneof![8 => "[}]{2}", 1 => "[},]{0,4}"],
        ) {
            let pairs = texts.iter().zip(&counts).map(|(text, count)| format!("\"{text}\":{count}"));
            let many = format!("{{\"reactions\":{{{}{end}", pairs.collect::<Vec<_>>().join(","));
            is_read_as_any_reader_of_json_would(format!("{{\"reaction\":\"{}\"}}", texts[0]).as_bytes());
            is_read_as_any_reader_of_json_would(many.as_bytes());
        }

        #[test]
        fn no_tokens_make_it_panic_and_what_is_read_is_valid(body in jsonish()) {
            is_read_as_any_reader_of_json_would(body.as_bytes());
        }
    }
}
