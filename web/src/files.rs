//! The files that are built in, by name, and the pages that name them.

use crate::asset::{Asset, digest_of};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::LazyLock};

/// Marks the place of the revision in a page.
const REVISION_MARK: &str = "{{revision}}";

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $name)))),*]
    };
}

/// Scripts and styles that any site may include: at `/{name}`, and for our pages at `/assets/{revision}/{name}`.
const SCRIPTS: &[(&str, &[u8])] = files![
    "uproar.js",
    "uproar.classic.js",
    "uproar.d.ts",
    "stage.js",
    "uproar-reactions.js",
    "uproar-reactions.css",
];

/// Parts of our own pages: at `/assets/{revision}/{name}` only.
const PAGE_PARTS: &[(&str, &[u8])] = files![
    "pages/icon.svg",
    "pages/room.css",
    "pages/room.js",
    "pages/history.js",
    "pages/overlay.css",
    "pages/overlay.js",
    "pages/desk.css",
    "pages/desk.js",
    "pages/orders.js",
    "pages/metrics.js",
    "pages/uPlot.iife.min.js",
    "pages/uPlot.min.css",
];

const PAGES: &[(&str, &[u8])] = files!["pages/room.html", "pages/overlay.html", "pages/desk.html"];

/// All files, loaded.
pub(crate) struct Files {
    /// A digest of all files: it changes when any of them does.
    pub(crate) revision: String,
    assets: BTreeMap<&'static str, Asset>,
    pages: BTreeMap<&'static str, Asset>,
}

/// The files of this build.
pub(crate) static FILES: LazyLock<Files> = LazyLock::new(Files::load);

impl Files {
    fn load() -> Self {
        let all = || SCRIPTS.iter().chain(PAGE_PARTS);
        let revision = digest_of(all().chain(PAGES).map(|(_, bytes)| *bytes));
        let assets =
            all().map(|(name, bytes)| (*name, Asset::new(name, Bytes::from_static(bytes)))).collect();
        let complete = |(name, bytes): &(&'static str, &[u8])| {
            let page = String::from_utf8_lossy(bytes).replace(REVISION_MARK, &revision);
            (*name, Asset::new(name, page.into()))
        };
        let pages = PAGES.iter().map(complete).collect();
        Self { revision, assets, pages }
    }

    /// The file `name` of those that pages include.
    pub(crate) fn asset(&self, name: &str) -> Option<&Asset> {
        self.assets.get(name)
    }

    /// The page `pages/{name}.html`.
    pub(crate) fn page(&self, name: &str) -> Option<&Asset> {
        self.pages.get(name)
    }
}

/// The names of [`SCRIPTS`].
pub(crate) fn script_names() -> impl Iterator<Item = &'static str> {
    SCRIPTS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_names_its_scripts_under_the_revision_and_nothing_inline() {
        for (name, _) in PAGES {
            let page = FILES.page(name).unwrap().body(crate::asset::Coding::Identity);
            let page = std::str::from_utf8(&page).unwrap();
            assert!(page.contains(&format!("/assets/{}/", FILES.revision)), "{name}");
            assert!(!page.contains("{{"), "{name}");
            assert!(
                !page.contains("<style") && !page.contains("style=") && !page.contains("onclick"),
                "{name}"
            );
            for tag in page.split("<script").skip(1) {
                assert!(tag.split('>').next().unwrap().contains("src="), "{name}: an inline script");
            }
        }
    }

    #[test]
    fn each_file_that_a_page_names_exists() {
        for (name, _) in PAGES {
            let page = FILES.page(name).unwrap().body(crate::asset::Coding::Identity);
            let page = String::from_utf8(page.to_vec()).unwrap();
            let prefix = format!("/assets/{}/", FILES.revision);
            for tail in page.split(&prefix).skip(1) {
                let file = tail.split('"').next().unwrap();
                assert!(FILES.asset(file).is_some(), "{name} names {file}");
            }
        }
    }
}
