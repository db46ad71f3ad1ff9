//! Which reactions are taken: each is folded to its canonical form, then looked up where there is a catalogue.

use crate::{config::Config, refusal::Refusal};
use control::Room;
use std::collections::HashSet;
use wire::{NameError, Reaction, SkinTones};

/// How many entries of the catalogue are named in an answer.
const SHOWN: usize = 20;

/// The reactions that are allowed, in their canonical forms.
pub(crate) struct Catalogue {
    tones: SkinTones,
    /// As the operator ordered them, each once. Empty: every reaction is allowed.
    list: Vec<Reaction>,
    set: HashSet<Reaction>,
}

impl Catalogue {
    /// The catalogue of a configuration that passed [`Config::validate`].
    pub(crate) fn new(config: &Config) -> Self {
        let tones = config.skin_tones();
        let (mut list, mut set) = (Vec::new(), HashSet::new());
        for text in &config.catalogue {
            let Ok(reaction) = Reaction::canonical(text, tones) else { continue };
            if set.insert(reaction.clone()) {
                list.push(reaction);
            }
        }
        Self { tones, list, set }
    }

    /// The canonical form of a text that a client sent. A room's `own` catalogue stands in for this one.
    ///
    /// # Errors
    ///
    /// It can be no reaction, or is not in the catalogue.
    pub(crate) fn take(&self, text: &str, own: Option<&Room>) -> Result<Reaction, Refusal> {
        let reaction = Reaction::canonical(text, self.tones)?;
        let allowed = match own.and_then(|room| room.allows(&reaction, self.tones).zip(Some(room))) {
            Some((true, _)) => return Ok(reaction),
            Some((false, room)) => {
                shortened(room.order.catalogue.iter().flatten().map(|entry| &*entry.reaction))
            }
            None if self.list.is_empty() || self.set.contains(&reaction) => return Ok(reaction),
            None => self.text(),
        };
        Err(Refusal::NotInCatalogue { reaction: reaction.to_string(), allowed })
    }

    /// The reactions that are allowed; empty where all are.
    pub(crate) fn list(&self) -> &[Reaction] {
        &self.list
    }

    /// The catalogue for people, shortened.
    pub(crate) fn text(&self) -> String {
        shortened(self.list.iter().map(|reaction| &**reaction))
    }
}

/// The first reactions, and how many more there are.
fn shortened<'a>(mut reactions: impl Iterator<Item = &'a str>) -> String {
    let shown = reactions.by_ref().take(SHOWN).collect::<Vec<_>>().join(" ");
    match reactions.count() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Checks an entry of the catalogue.
pub(crate) fn check(text: &str, tones: SkinTones) -> Result<(), NameError> {
    Reaction::canonical(text, tones).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    fn of(catalogue: &[&str], fold_skin_tones: bool) -> Catalogue {
        let catalogue = catalogue.iter().map(ToString::to_string).collect();
        Catalogue::new(&Config { catalogue, fold_skin_tones, ..config() })
    }

    #[test]
    fn a_long_catalogue_is_shortened_in_answers() {
        let names: Vec<_> = (0..25).map(|i| format!("r{i}")).collect();
        let text = |n: usize| of(&names[..n].iter().map(String::as_str).collect::<Vec<_>>(), true).text();
        assert_eq!(text(2), "r0 r1");
        assert!(text(25).ends_with("r19 and 5 more"));
    }

    #[test]
    fn an_entry_is_met_by_every_form_of_its_reaction() {
        let catalogue = of(&["❤", "☝️", "👏🏽", "👏", "e\u{301}"], true);
        for (sent, one) in [("❤️", "❤️"), ("❤", "❤️"), ("☝🏿", "☝️"), ("👏🏻\u{fe0f}", "👏"), ("é", "é")]
        {
            assert_eq!(catalogue.take(sent, None).as_deref().ok(), Some(one), "{sent:?}");
        }
        let said = catalogue.take("☠", None).unwrap_err().to_string();
        assert_eq!(said, "\"☠\u{fe0f}\" is not in the catalogue; allowed are: ❤\u{fe0f} ☝\u{fe0f} 👏 é");
    }

    #[test]
    fn an_entry_with_a_tone_is_met_by_that_tone_alone_where_tones_are_kept() {
        let catalogue = of(&["👏🏽"], false);
        assert!(catalogue.take("👏🏽\u{fe0f}", None).is_ok());
        assert!(matches!(catalogue.take("👏", None), Err(Refusal::NotInCatalogue { .. })));
    }
}
