//! One emoji is one reaction.

use super::*;
use emojis::Emoji;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn folded(text: &str) -> String {
    canonical(text, SkinTones::Fold).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn canonical(text: &str, tones: SkinTones) -> Result<String, NameError> {
    Reaction::canonical(text, tones).map(|reaction| reaction.to_string())
}

/// Every emoji of emoji-test.txt with every skin tone.
fn emojis() -> impl Iterator<Item = &'static Emoji> {
    emojis::iter().flat_map(|emoji| match emoji.skin_tones() {
        Some(tones) => tones.collect(),
        None => vec![emoji],
    })
}

/// A text with each choice of its selectors U+FE0F left out.
fn forms(text: &str) -> BTreeSet<String> {
    let selectors: Vec<_> = text.match_indices('\u{fe0f}').map(|(at, _)| at).collect();
    let without = |choice: usize| {
        let dropped = |at: usize| {
            let which = selectors.iter().position(|selector| *selector == at);
            which.is_some_and(|which| choice >> which & 1 == 1)
        };
        text.char_indices().filter(|(at, _)| !dropped(*at)).map(|(_, c)| c).collect()
    };
    (0..1usize << selectors.len()).map(without).collect()
}

#[test]
fn every_form_of_every_emoji_is_its_fully_qualified_base() {
    let (mut emoji_count, mut form_count) = (0, 0);
    for emoji in emojis() {
        let base = emoji.with_skin_tone(emojis::SkinTone::Default).unwrap_or(emoji).as_str();
        for form in forms(emoji.as_str()) {
            assert_eq!(folded(&form), base, "{form:?}");
            assert_eq!(canonical(&form, SkinTones::Keep).as_deref(), Ok(emoji.as_str()), "{form:?}");
            for odd in ["\u{fe0f}", "\u{fe0e}"] {
                assert_eq!(folded(&format!("{form}{odd}")), base, "{form:?}");
            }
            form_count += 1;
        }
        emoji_count += 1;
    }
    assert!(emoji_count > 3_900 && form_count > 4_900, "{emoji_count} emojis in {form_count} forms");
}

#[test]
fn an_emoji_is_looked_up_and_not_copied() {
    for emoji in emojis() {
        for form in forms(emoji.as_str()) {
            assert!(emojis::get(&form).is_some(), "{form:?} is folded the long way");
            for tones in [SkinTones::Fold, SkinTones::Keep] {
                assert!(!Reaction::canonical(&form, tones).unwrap().is_on_heap(), "{form:?}");
            }
        }
    }
}

#[test]
fn forms_that_differ_in_selectors_normal_form_or_tone_are_one_reaction() {
    for (sent, one) in [
        ("❤", "❤️"),
        ("❤\u{fe0e}", "❤️"),
        ("🔥\u{fe0f}", "🔥"),
        ("👏\u{fe0f}🏽", "👏"),
        ("👏🏽\u{fe0f}", "👏"),
        ("1\u{20e3}", "1️⃣"),
        ("©", "©️"),
        ("👨🏽‍👩‍👧", "👨‍👩‍👧"),
        ("❤❤", "❤️❤️"),
        ("I❤NY", "I❤️NY"),
        ("👏🏽👏🏿", "👏👏"),
        ("e\u{301}", "é"),
        ("e\u{fe0f}\u{301}", "é"),
        ("goal", "goal"),
        ("🏽", "🏽"),
        ("👩‍🚀", "👩‍🚀"),
        ("👨‍🚀", "👨‍🚀"),
    ] {
        assert_eq!(folded(sent), one, "{sent:?}");
        assert_eq!(folded(one), one);
    }
    for (sent, one) in
        [("👏🏽", "👏🏽"), ("👏\u{fe0f}🏽", "👏🏽"), ("☝🏽\u{fe0f}", "☝🏽"), ("❤", "❤️"), ("e\u{301}", "é")]
    {
        assert_eq!(canonical(sent, SkinTones::Keep).as_deref(), Ok(one), "{sent:?}");
    }
}

#[test]
fn text_that_nobody_sees_is_no_reaction() {
    let texts = [
        " ",
        "   ",
        "\u{a0}",
        "\u{3000}",
        "\u{200b}",
        "\u{200d}",
        "\u{feff}",
        "\u{ad}",
        "\u{2060}",
        "\u{3164}",
        "\u{ffa0}",
        "\u{115f}\u{1160}",
        "\u{2800}",
        "\u{fe00}",
        "\u{fe0f}",
        "\u{fe0e}\u{fe0f}",
        "\u{e0100}",
        "\u{e0067}\u{e007f}",
        "\u{301}",
        "\u{20e3}",
        "\u{903}",
        "\u{180e}",
        "\u{34f}",
        "\u{e0080}",
        " \u{200b}\u{301} ",
    ];
    for text in texts {
        assert_eq!(canonical(text, SkinTones::Fold), Err(NameError::ReactionInvisible), "{text:?}");
    }
}

#[test]
fn characters_that_change_the_text_around_them_are_refused() {
    for c in [
        '\u{202a}',
        '\u{202e}',
        '\u{2066}',
        '\u{2069}',
        '\u{200e}',
        '\u{200f}',
        '\u{61c}',
        '\u{2028}',
        '\u{2029}',
        '\u{fdd0}',
        '\u{ffff}',
        '\u{10fffe}',
    ] {
        let said = canonical(&format!("a{c}🔥"), SkinTones::Fold).unwrap_err();
        assert_eq!(said, NameError::ReactionForbidden(c));
    }
    let said = canonical("a\u{202e}", SkinTones::Fold).unwrap_err().to_string();
    assert!(said.starts_with("a reaction may not hold U+202E: it breaks lines"), "{said}");
    for c in ['\0', '\n', '\u{7f}', '\u{85}'] {
        assert_eq!(canonical(&format!("🔥{c}"), SkinTones::Fold), Err(NameError::ReactionControl(c)));
    }
}

#[test]
fn the_limit_is_of_the_canonical_form() {
    assert_eq!(folded(&"e\u{301}".repeat(32)), "é".repeat(32));
    assert_eq!(canonical(&"é".repeat(33), SkinTones::Fold), Err(NameError::ReactionTooLong(66)));
    assert_eq!(canonical(&"x".repeat(65), SkinTones::Fold), Err(NameError::ReactionTooLong(65)));
    assert_eq!(canonical(&"é".repeat(4_000), SkinTones::Fold), Err(NameError::ReactionTooLong(8_000)));
    assert_eq!(canonical("", SkinTones::Fold), Err(NameError::ReactionEmpty));
}

/// Texts that are hard to fold.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "❤",
        "❤️",
        "👏",
        "🏽",
        "🏿",
        "👨",
        "👩",
        "\u{200d}",
        "\u{fe0f}",
        "\u{fe0e}",
        "1",
        "\u{20e3}",
        "🇩",
        "🇪",
        "e",
        "\u{301}",
        "\u{1100}",
        "\u{1161}",
        "\u{600}",
        "🏴",
        "\u{e0067}",
        "\u{e007f}",
        "☝",
        "\u{958}",
        "क",
        "\u{94d}",
        " ",
    ]);
    prop_oneof![
        prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat()),
        ".{0,24}",
        "\\PC{0,24}"
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_096, ..ProptestConfig::default() })]

    #[test]
    fn folding_again_changes_nothing(text in texts(), keep: bool) {
        let tones = if keep { SkinTones::Keep } else { SkinTones::Fold };
        if let Ok(once) = canonical(&text, tones) {
            prop_assert_eq!(canonical(&once, tones), Ok(once.clone()));
            prop_assert_eq!(Reaction::check(&once), Ok(()));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text: String) {
        let _ = canonical(&text, SkinTones::Fold);
        let _ = canonical(&text, SkinTones::Keep);
    }

    #[test]
    fn selectors_make_no_difference(text in texts()) {
        let plain = text.replace(['\u{fe0e}', '\u{fe0f}'], "");
        if !plain.is_empty() && !plain.is_ascii() {
            prop_assert_eq!(canonical(&text, SkinTones::Fold), canonical(&plain, SkinTones::Fold));
        }
    }
}
