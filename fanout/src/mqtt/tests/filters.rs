//! Topic names and filters: the examples of section 4.7 and 4.8.2, and what they leave to be thought of.

use super::super::{
    Version,
    filter::{is_shared, is_topic_filter, is_topic_name},
};

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

#[test]
fn good_filters() {
    let good = [
        "a",
        "/",
        "//",
        "/a",
        "a/",
        "a//b",
        "a b",
        "sport/tennis/player1/#",
        "sport/#",
        "#",
        "/#",
        "+",
        "/+",
        "+/+",
        "+/tennis/#",
        "sport/+/player1",
        "sport/+",
        "+/",
        "+/#",
        "//#",
        "$SYS/#",
        "$SYS/monitor/+",
        "$share",
        "$shared/a",
        "ä/ö/#",
        "\u{feff}a",
        "reactions/+",
        "reactions/room-1",
    ];
    for (filter, version) in good.into_iter().flat_map(|filter| VERSIONS.map(|version| (filter, version))) {
        assert!(is_topic_filter(filter, version), "{filter} in {version:?}");
        assert!(!is_shared(filter, version), "{filter} in {version:?}");
    }
}

#[test]
fn bad_filters() {
    let bad = [
        "",
        "sport/tennis#",
        "sport/tennis/#/ranking",
        "sport+",
        "+sport",
        "a/b+/c",
        "##",
        "#/",
        "a/##",
        "#+",
        "+#",
        "a/+#",
        "++",
        "a/+b/#",
        "/#/",
        "#/#",
    ];
    for (filter, version) in bad.into_iter().flat_map(|filter| VERSIONS.map(|version| (filter, version))) {
        assert!(!is_topic_filter(filter, version), "{filter} in {version:?}");
    }
}

#[test]
fn shared_subscriptions_are_there_only_in_mqtt_5() {
    for good in ["$share/group/a", "$share/group/+/b/#", "$share/group//", "$share/ /a", "$share/a/$share/b"]
    {
        assert!(is_topic_filter(good, Version::V5) && is_shared(good, Version::V5), "{good}");
        assert!(is_topic_filter(good, Version::V311) && !is_shared(good, Version::V311), "{good}");
    }
    for (bad, is_ordinary) in [
        ("$share/", true),
        ("$share//a", true),
        ("$share/group", true),
        ("$share/group/", true),
        ("$share/+/a", true),
        ("$share/#", true),
        ("$share/gr+oup/a", false),
        ("$share/group/a#", false),
        ("$share/group/#/a", false),
    ] {
        assert!(!is_topic_filter(bad, Version::V5), "{bad}");
        assert_eq!(is_topic_filter(bad, Version::V311), is_ordinary, "{bad}");
    }
}

#[test]
fn topic_names_have_no_wildcards() {
    for (name, is_good) in
        [("a", true), ("/", true), ("$share/a/b", true), ("", false), ("a/+", false), ("#", false)]
    {
        assert_eq!(is_topic_name(name), is_good, "{name}");
    }
}
