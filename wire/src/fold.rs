//! The one canonical form of a reaction: an emoji is one reaction, however a client writes it.
//!
//! docs/decisions/0015 gives the rules and the reasons.

use crate::{NameError, Reaction, names::REACTION_BYTES_MAX};
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};
use unicode_segmentation::UnicodeSegmentation;

/// No text that is longer than this is folded. Folding shortens at most to a third.
const SENT_BYTES_MAX: usize = 4 * REACTION_BYTES_MAX;

/// Letters and symbols that are blank: no general category says so.
const BLANKS: [char; 8] =
    ['\u{115f}', '\u{1160}', '\u{2800}', '\u{3164}', '\u{ffa0}', '\u{13441}', '\u{13442}', '\u{1d159}'];

/// Whether skin tones are folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkinTones {
    /// 👏🏽 counts as 👏.
    Fold,
    /// 👏🏽 and 👏 are two reactions.
    Keep,
}

impl Reaction {
    /// The canonical form of a text that a client sent: NFC, and each emoji in the fully qualified form of Unicode's
    /// emoji-test.txt. Presentation selectors that this form does not have are removed.
    ///
    /// An emoji in any form of emoji-test.txt is not copied, and ASCII of at most 23 bytes not to the heap.
    ///
    /// # Errors
    ///
    /// The canonical form is empty, longer than 64 bytes, or holds a forbidden character or nothing that can be seen.
    pub fn canonical(text: &str, tones: SkinTones) -> Result<Self, NameError> {
        if text.is_ascii() {
            Self::check(text)?;
            let is_blank = text.bytes().all(|byte| byte == b' ');
            return if is_blank { Err(NameError::ReactionInvisible) } else { Ok(Self::of(text)) };
        }
        if let Some(emoji) = emoji(text, tones) {
            return Ok(Self::of_static(emoji));
        }
        if text.len() > SENT_BYTES_MAX {
            return Err(NameError::ReactionTooLong(text.len()));
        }
        let folded = fold(text, tones);
        if folded.is_empty() || !folded.chars().any(is_visible) {
            return Err(NameError::ReactionInvisible);
        }
        Self::check(&folded)?;
        match folded.chars().find(|c| is_forbidden(*c)) {
            Some(c) => Err(NameError::ReactionForbidden(c)),
            None => Ok(Self::of(&folded)),
        }
    }
}

/// The fully qualified form of an emoji in any of its forms.
fn emoji(text: &str, tones: SkinTones) -> Option<&'static str> {
    let emoji = emojis::get(text)?;
    if emoji.as_str() == text && tones == SkinTones::Keep {
        return Some(emoji.as_str());
    }
    let mut variants = emoji.skin_tones().into_iter().flatten();
    let found = match tones {
        // The first variant is the one without tones.
        SkinTones::Fold => variants.next(),
        // `emojis` 0.8.2 takes 24 short forms of couples for the same couple with other tones.
        SkinTones::Keep => variants.find(|variant| differs_in_selectors_only(variant.as_str(), text)),
    };
    Some(found.unwrap_or(emoji).as_str())
}

fn differs_in_selectors_only(a: &str, b: &str) -> bool {
    let [a, b] = [a, b].map(|text| text.chars().filter(|c| !is_presentation_selector(*c)));
    a.eq(b)
}

/// Folds a text that is no emoji as it stands: each emoji within it, and the rest of it.
fn fold(text: &str, tones: SkinTones) -> String {
    // Selectors go first: one between two characters hides from NFC, and from the look-up, that these belong together.
    let plain: String = text.chars().filter(|c| !is_presentation_selector(*c)).nfc().collect();
    let mut folded = String::with_capacity(plain.len());
    for cluster in plain.graphemes(true) {
        match emoji(cluster, tones).or_else(|| emoji_of_odd_tone(cluster, tones)) {
            Some(emoji) => folded.push_str(emoji),
            None => folded.push_str(cluster),
        }
    }
    folded
}

/// The base of an emoji with skin tones that emoji-test.txt does not know, such as a family of one tone.
fn emoji_of_odd_tone(cluster: &str, tones: SkinTones) -> Option<&'static str> {
    let is_tone = |c: char| ('\u{1f3fb}'..='\u{1f3ff}').contains(&c);
    if tones == SkinTones::Keep || !cluster.contains(is_tone) {
        return None;
    }
    emoji(&cluster.replace(is_tone, ""), tones)
}

/// Asks for a character as text or as emoji.
fn is_presentation_selector(c: char) -> bool {
    matches!(c, '\u{fe0e}' | '\u{fe0f}')
}

/// Marks of direction, separators of lines, and noncharacters. Control characters are refused before.
pub(crate) fn is_forbidden(c: char) -> bool {
    let is_noncharacter = matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe;
    is_noncharacter
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a reader sees the character by itself.
fn is_visible(c: char) -> bool {
    // Unicode ignores these by default also where they are not assigned.
    let is_ignorable = matches!(c, '\u{2065}' | '\u{fff0}'..='\u{fff8}' | '\u{e0000}'..='\u{e0fff}');
    let is_mark = c.general_category_group() == GeneralCategoryGroup::Mark;
    let is_format = c.general_category() == GeneralCategory::Format;
    !(c.is_whitespace() || is_mark || is_format || is_ignorable || BLANKS.contains(&c))
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
