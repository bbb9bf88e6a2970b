#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use crate::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroU16;

fn place(line: u32) -> Place {
    Place { line, ..Place::nowhere() }
}

/// A tree from JSON; every node gets its own line, with keys in alphabetical order. Text that begins with `'` is
/// quoted, any other scalar is plain.
fn tree(json: &str) -> Value {
    fn build(json: &serde_json::Value, line: &mut u32) -> Value {
        *line += 1;
        let place = place(*line);
        let kind = match json {
            serde_json::Value::Null => ValueKind::Null,
            serde_json::Value::String(text) => match text.strip_prefix('\'') {
                Some(text) => ValueKind::Scalar { text: text.to_owned(), quotes: Quotes::Present },
                None => ValueKind::Scalar { text: text.clone(), quotes: Quotes::Absent },
            },
            serde_json::Value::Array(items) => {
                ValueKind::List(items.iter().map(|item| build(item, line)).collect())
            }
            serde_json::Value::Object(entries) => ValueKind::Map(
                entries
                    .iter()
                    .map(|(key, value)| {
                        let value = build(value, line);
                        (Key { place: value.place.clone(), text: key.clone() }, value)
                    })
                    .collect(),
            ),
            other => ValueKind::Scalar { text: other.to_string(), quotes: Quotes::Absent },
        };
        Value { place, kind }
    }
    build(&serde_json::from_str(json).unwrap(), &mut 0)
}

fn messages_of<T: serde::de::DeserializeOwned>(json: &str) -> Vec<String> {
    let problems = tree(json).read::<T>().err().expect("it is bad");
    let messages = problems.0.into_iter().map(|p| format!("{}: {}", p.place.unwrap().line, p.message));
    messages.collect()
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestSettings {
    name: Placed<String>,
    #[serde(default)]
    rooms: Vec<Placed<TestItem>>,
    #[serde(default)]
    doors: BTreeMap<String, Placed<u8>>,
    #[serde(default)]
    open: bool,
    #[serde(default)]
    closes_after: Option<Period>,
    #[serde(default)]
    colour: Colour,
    #[serde(default)]
    guests: Option<Guests>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestItem {
    size: NonZeroU16,
    #[serde(default)]
    windows: Option<u8>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Colour {
    #[default]
    White,
    Green,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename = "$shape a guest's name, a list of rooms, or a mapping")]
enum Guests {
    #[serde(rename = "scalar")]
    One(Placed<String>),
    #[serde(rename = "list")]
    Rooms(Vec<Placed<TestItem>>),
}

#[test]
fn the_type_decides_the_meaning_of_a_scalar() {
    let value = tree(r#"{"a": 1, "b": true, "c": "'1", "d": "1e3"}"#);
    let words: BTreeMap<String, String> = value.read().unwrap();
    assert_eq!(words.values().collect::<Vec<_>>(), ["1", "true", "1", "1e3"]);
    assert_eq!(tree("1").read::<u16>().unwrap(), 1);
    assert_eq!(tree(r#"{"404": 1}"#).read::<BTreeMap<u16, f32>>().unwrap()[&404], 1.0);
    assert!(tree(r#""'1""#).read::<u16>().is_err());
    assert_eq!(tree(r#""'1""#).read::<serde_json::Value>().unwrap(), serde_json::json!("1"));
    assert_eq!(tree("[1, null]").read::<serde_json::Value>().unwrap(), serde_json::json!([1, null]));
}

#[test]
fn places_are_kept() {
    let settings: TestSettings =
        tree(r#"{"name": "x", "rooms": [{"size": 3}], "guests": "y"}"#).read().unwrap();
    assert_eq!(settings.name.place.line, 3);
    assert_eq!(settings.rooms[0].place.line, 5);
    let Some(Guests::One(name)) = settings.guests else { panic!("one") };
    assert_eq!(name.place.line, 2);
}

#[test]
fn every_problem_is_reported_at_once() {
    let messages = messages_of::<TestSettings>(
        r#"{"nam": "x",
            "rooms": [{"size": 0, "windows": "many"}, {"size": 1}, {"windows": 300}, 7],
            "doors": {"a": 1, "b": 256, "c": [], "d": -1},
            "open": "yes", "closes_after": 30, "colour": "gren", "guests": [{"sise": 1}], "extra": 1}"#,
    );
    let expected = [
        "2: `30` has no unit",
        "3: unknown value `gren`",
        "6: `256` is out of range",
        "7: expected a whole number, found a list",
        "8: `-1` is out of range",
        "9: unknown key `extra`",
        "12: unknown key `sise`",
        "13: unknown key `nam`",
        "14: expected `true` or `false`, found `yes`",
        "17: `0` is out of range",
        "18: expected a whole number, found `many`",
        "21: missing key `size`",
        "22: `300` is out of range",
        "23: expected a mapping, found `7`",
    ];
    assert_eq!(messages, expected);
}

#[test]
fn every_missing_key_is_named() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct RequiredKeys {
        a: String,
        b: NonZeroU16,
        c: Placed<Period>,
        d: Vec<u8>,
        e: bool,
        f: Guests,
        g: TestItem,
        h: Colour,
    }
    let named: Vec<_> = "abcdefg".chars().map(|key| format!("1: missing key `{key}`")).collect();
    assert_eq!(messages_of::<RequiredKeys>("{}"), named);
    assert_eq!(messages_of::<Vec<RequiredKeys>>(r#"[{}, {"a": [], "b": 1, "c": 1, "d": 1}]"#).len(), 7 + 6);
}

#[test]
fn a_bad_value_is_not_also_a_missing_one() {
    assert_eq!(messages_of::<TestItem>(r#"{"size": "big"}"#), ["2: expected a whole number, found `big`"]);
    assert_eq!(messages_of::<TestSettings>(r#"{"name": []}"#), ["2: expected text, found a list"]);
}

#[test]
fn an_excluded_part_raises_no_further_problem() {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "Vec<u8>")]
    struct FirstElement(#[allow(dead_code, reason = "only read")] u8);
    impl TryFrom<Vec<u8>> for FirstElement {
        type Error = &'static str;
        fn try_from(list: Vec<u8>) -> Result<Self, &'static str> {
            list.first().map(|first| Self(*first)).ok_or("must not be empty")
        }
    }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct Pair {
        good: FirstElement,
        bad: FirstElement,
        worse: u8,
    }
    let messages = messages_of::<Pair>(r#"{"good": [1], "bad": [300], "worse": "x"}"#);
    assert_eq!(messages, ["3: `300` is out of range", "6: expected a whole number, found `x`"]);
    assert_eq!(messages_of::<FirstElement>("[]"), ["1: must not be empty"]);
}

#[test]
fn flattened_and_untagged_types_still_read() {
    #[derive(Debug, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        rest: BTreeMap<String, Either>,
        name: String,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u8),
        Word(Placed<String>),
    }
    let flat: Flat = tree(r#"{"name": "x", "a": 1, "b": "two"}"#).read().unwrap();
    assert_eq!(flat.name, "x");
    assert_eq!(flat.rest["a"], Either::Number(1));
    let Either::Word(word) = &flat.rest["b"] else { panic!("a word") };
    assert_eq!(word.value, "two");
    assert_eq!(messages_of::<Flat>(r#"{"a": []}"#).len(), 1);
}

#[test]
fn enums_with_content_are_mappings_of_one_key() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Shape {
        Point,
        Circle { radius: u8 },
        Named(String),
    }
    assert_eq!(tree(r#""point""#).read::<Shape>().unwrap(), Shape::Point);
    assert_eq!(tree(r#"{"circle": {"radius": 3}}"#).read::<Shape>().unwrap(), Shape::Circle { radius: 3 });
    assert_eq!(tree(r#"{"named": 5}"#).read::<Shape>().unwrap(), Shape::Named("5".to_owned()));
    assert_eq!(messages_of::<Shape>(r#"{"circle": {"radios": 3}}"#), ["3: unknown key `radios`"]);
    assert_eq!(messages_of::<Shape>(r#""circle""#), ["1: `circle` needs settings"]);
}

#[test]
fn raised_problems_keep_their_text() {
    let problems = tree(r#"{"size": 1, "windows": 1, "name": "x"}"#).read::<TestItem>().unwrap_err();
    assert_eq!(problems.0[0].help, ["known keys: size, windows"]);
    let problems = tree(r#"{"name": "x", "closes_after": 30}"#).read::<TestSettings>().unwrap_err();
    assert_eq!(problems.0[0].label.as_deref(), Some("write `30s` for seconds"));
    let text = serde_json::from_str::<Period>("\"30\"").unwrap_err().to_string();
    assert!(text.starts_with("`30` has no unit"), "{text}");
}

#[test]
fn quotes_matter_only_where_they_change_the_meaning() {
    assert_eq!(tree(r#""a""#), tree(r#""'a""#));
    assert_ne!(tree("1"), tree(r#""'1""#));
    assert_ne!(tree(r#""'true""#), tree("true"));
}

#[test]
fn ten_thousand_bad_elements_cost_no_square() {
    let rooms = vec![r#"{"size": 0, "windows": "x"}"#; 10_000].join(",");
    let messages = messages_of::<TestSettings>(&format!(r#"{{"name": "x", "rooms": [{rooms}]}}"#));
    assert_eq!(messages.len(), 1000);
}
