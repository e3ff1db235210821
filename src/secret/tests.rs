//! What [`redact`] promises, for every spelling of every sort of value at every place.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fastrand::Rng;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::spellings::{SPELLINGS, json, url};
use super::*;

/// Longest escape sequence: so much is taken along at an end of what is hidden.
const TAKEN_ALONG_MAX: usize = 11;

/// One value of each sort.
const VALUES: &[&str] = &[
    // A token, a client secret, a storage key, a signature in a SAS, a connection string.
    "eyJ0eXAiOiJKV1QifQ.eyJhdWQiOiJodHRwczovL3ZhdWx0LmF6dXJlLm5ldCJ9.dGhpcyBpcyBhIHNpZ25hdHVyZQ-_",
    "dX~8Q~rUUM4Ndz3GpvjxlhxG-7wYh~T4sv3Sgaar",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "sv=2024-11-04&sr=c&sig=Zm9v%2BYmFyL2Jheg%3D%3D&se=2026-11-28T06%3A00%3A00Z",
    "Endpoint=sb://a.example/;SharedAccessKey=abc+def/ghi=",
    // Short ones, and those around the length of a run.
    "hunter2!",
    "p\"ss\\w\u{f6}rd",
    "fifteen-bytes-x",
    "sixteen-bytes--y",
    "seventeen-bytes-z",
    // What a person may choose: quotes, backslashes, spaces, what looks like escapes, other scripts.
    "correct horse \"battery\" staple",
    "C:\\new\\table%41\\u0041+1",
    "\u{43f}\u{430}\u{440}\u{43e}\u{43b}\u{44c}-\u{1F600}-\u{5bc6}\u{7801}\u{e9}!",
    // What came out of a file.
    "-----BEGIN KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5\nE1hK1bbY8fdp\n-----END KEY-----",
];

const NOTHING: [Range<usize>; 0] = [];

/// Only these values, and no shapes.
fn hidden(values: &[&str], text: &str) -> Vec<Range<usize>> {
    let known = Live::new(values.iter().map(|value| (*value, Which::Obtained)));
    let look = |text: &[u8], hidden: &mut Vec<Range<usize>>| known.find(text, Which::All, hidden);
    Search::new(&look, TooDeep::Hidden, text.len()).all(text.as_bytes())
}

/// Fails unless the secret `middle` of the text is hidden, and nothing around it.
#[track_caller]
fn check(value: &str, [before, middle, behind]: [&str; 3], case: &str) {
    let text = [before, middle, behind].concat();
    let (start, end) = (before.len(), before.len() + middle.len());
    let found = hidden(&[value], &text);
    let along = if text.contains(['\\', '%']) { TAKEN_ALONG_MAX } else { 0 };
    let is_right = match &found[..] {
        [one] => {
            (start.saturating_sub(along)..=start).contains(&one.start)
                && (end..=end + along).contains(&one.end)
        }
        _ => false,
    };
    assert!(is_right, "{case}: hidden {found:?}, not {start}..{end} of {text:?}");
}

#[test]
fn every_spelling_of_every_value_is_hidden_wherever_it_stands() {
    for value in VALUES {
        for (name, spell) in SPELLINGS {
            let mut rng = Rng::with_seed(7);
            for (before, behind) in [
                ("", ""),
                ("a line: ", ""),
                ("", "; and more"),
                ("\u{e4}=\"", "\" \u{e4}\n"),
                ("x", ","),
                ("f", ","),
            ] {
                let spelled = spell(value, &mut rng);
                check(value, [before, &spelled, behind], &format!("{value:?}, {name}"));
            }
        }
    }
}

#[test]
fn base64_is_found_at_every_alignment_in_longer_base64() {
    for value in VALUES {
        for before in ["", "a", "ab", "abc", "user:", "\u{1}\u{2}\u{3}\u{4}"] {
            for behind in ["", "z", "yz", "xyz", "\u{0}\u{7}"] {
                for (name, encoded) in [
                    ("standard", STANDARD.encode([before, value, behind].concat())),
                    ("URL-safe", URL_SAFE_NO_PAD.encode([before, value, behind].concat())),
                ] {
                    let start = before.len() * 4 / 3;
                    let end = match behind {
                        "" => encoded.len(),
                        _ => ((before.len() + value.len()) * 4).div_ceil(3),
                    };
                    let parts = [&encoded[..start], &encoded[start..end], &encoded[end..]];
                    check(value, parts, &format!("{before:?} {value:?} {behind:?}, {name}"));
                    let [first, middle, last] = parts;
                    let (first, last) = (format!("Basic {first}"), format!("{last}\""));
                    check(
                        value,
                        [&first, middle, &last],
                        &format!("{before:?} {value:?}, in a line"),
                    );
                }
            }
        }
    }
}

#[test]
fn base64_of_a_document_is_looked_into() {
    for value in VALUES {
        for (before, spelled, behind) in [
            ("{\"password\":\"", json(value), "\"}"),
            ("client_secret=", url(value), "&grant_type=a"),
        ] {
            let encoded = STANDARD.encode([before, &spelled, behind].concat());
            let (start, end) = (before.len() * 4 / 3, (before.len() + spelled.len()) * 4);
            let [first, rest] = [&encoded[..start], &encoded[start..]];
            let (middle, last) = rest.split_at(end.div_ceil(3) - start);
            let line = format!("Sent {first}");
            check(value, [&line, middle, last], &format!("{value:?} in base64 of a document"));
        }
    }
}

#[test]
fn sixteen_bytes_in_a_row_are_hidden_in_every_spelling_and_fifteen_are_not() {
    let value = "k3~Vq8_Zt.4mB-w7Xc1nRf5Hj9Ld2Gs6Pa0YeUoKiTb";
    let mut rng = Rng::with_seed(3);
    // Of the line breaks, one is where the run ends.
    for (name, spell) in SPELLINGS.iter().filter(|(name, _)| !name.contains("lines")) {
        for start in 0..=value.len() - RUN_BYTES {
            let run = &value[start..start + RUN_BYTES];
            let spelled = spell(run, &mut rng);
            let found = hidden(&[value], &format!("<{spelled}>"));
            // Of base64, some bits of the next byte, which are not the value's, and the padding may stay.
            let stays = if name.contains("base64") { "A%3D%3D".len() } else { 0 };
            let is_hidden = found[..].first().is_some_and(|range| {
                range.start == 1
                    && (1 + spelled.len() - stays..=1 + spelled.len()).contains(&range.end)
            });
            assert!(is_hidden && found.len() == 1, "{name}: {found:?} of {spelled}");
            let shorter = spell(&run[1..], &mut rng);
            // In base64, as many characters are of 15 bytes as of 16.
            if !name.contains("base64") {
                assert_eq!(hidden(&[value], &shorter), NOTHING, "{shorter}, {name}");
            }
        }
    }
}

#[test]
fn of_a_short_value_only_the_whole_is_hidden() {
    for value in ["eight888", "fifteen-bytes-x"] {
        for (name, spell) in SPELLINGS {
            let mut rng = Rng::with_seed(5);
            for part in [&value[1..], &value[..value.len() - 1]] {
                let spelled = spell(part, &mut rng);
                assert_eq!(hidden(&[value], &spelled), NOTHING, "{spelled}, {name}");
            }
        }
    }
    assert_eq!(hidden(&["seven77"], "seven77"), NOTHING, "shorter ones are not looked for");
}

#[test]
fn all_else_stays_byte_for_byte() {
    let check = |text: &str, want: &str| {
        let values = ["hunter2!", "n0t-a-w0rd-but-long-enough"];
        let known = Live::new(values.iter().map(|value| (*value, Which::All)));
        let clean = redact_with(&known, text);
        assert_eq!(clean, want, "{text}");
        assert_eq!(redact_with(&known, &clean), want, "it is redacted once more");
        assert_eq!(matches!(clean, Cow::Borrowed(_)), text == want, "{text}");
    };
    check("", "");
    check("größe %41 \\n \\u0041 %zz \\", "größe %41 \\n \\u0041 %zz \\");
    check("a hunter2! %41 \\n", "a [REDACTED] %41 \\n");
    // Next to each other, they are one.
    check("hunter2!hunter2! hunter2!", "[REDACTED] [REDACTED]");
    check("hunter2!n0t-a-w0rd-but-long-enough", "[REDACTED]");
    check("user:n0t-a-w0rd-but-long-enough@host", "user:[REDACTED]@host");
    check("blob dXNlcjpodW50ZXIyIQ== x", "blob dXNlcj[REDACTED] x");
    // An escape sequence is not cut in two.
    check(r#"{"a":"b\nhunter2!\tc"}"#, r#"{"a":"b\n[REDACTED]\tc"}"#);
    check(r#"{"a":"b\n0t-a-w0rd-but-long-enough"}"#, r#"{"a":"b[REDACTED]"}"#);
    // Nor one of a JSON text in the string.
    check(r#"{"a":"b\\n0t-a-w0rd-but-long-enough"}"#, r#"{"a":"b[REDACTED]"}"#);
}

#[test]
fn a_value_that_repeats_itself_is_found_at_once() {
    for (value, text) in [
        ("a".repeat(5_000), "a".repeat(1 << 14)),
        ("0".repeat(16), "0".repeat((1 << 14) + 5)),
        ("ab".repeat(5_000), "ab".repeat(1 << 13)),
        ("\\".repeat(8), "\\".repeat(1 << 14)),
        ("%25".repeat(8), "%25".repeat(1 << 12)),
    ] {
        assert_eq!(hidden(&[&value], &text), [0..text.len()], "{}", &text[..8]);
    }
}

#[test]
fn what_would_be_decoded_without_end_is_hidden_whole() {
    for unit in
        ["%25", "%2525252541", "\\\\\\\\\\\"", "VVVVVVVVVVVVVVVV", "+%2B\\n\n\\\\u0025", "41"]
    {
        let text = unit.repeat((1 << 15) / unit.len());
        let found = hidden(&["some-other-value"], &text);
        assert!(found.is_empty() || found == [0..text.len()], "{unit}: {:?}", found.first());
    }
    // Base64 of base64 of base64: there is an end to it.
    let mut text = "not the value that is looked for, ".repeat(1000);
    for _ in 0..8 {
        text = STANDARD.encode(&text);
    }
    assert_eq!(hidden(&["some-other-value"], &text), NOTHING);
    // The limit itself.
    let look = |_: &[u8], _: &mut Vec<Range<usize>>| {};
    let search = Search { look: &look, too_deep: TooDeep::Hidden, work_left: 10 };
    assert_eq!(search.all(b"a text with %41 in it"), [0..21]);
}

#[test]
fn the_same_secret_in_two_places_is_hidden_in_both() {
    let spelled = STANDARD.encode("a \"secret\" that is escaped".replace('"', "\\\""));
    let text = format!("{spelled} and {spelled}");
    let found = hidden(&["a \"secret\" that is escaped"], &text);
    assert_eq!(found, [0..spelled.len(), spelled.len() + 5..text.len()]);
}

#[test]
fn a_shape_at_the_beginning_of_a_line_is_seen_however_the_line_break_is_spelled() {
    let key = "Q2FuYXJ5dmRNMDJ4Tk9jcUZsMXdQTG1FdGxDRFhKMU9VekZUNTB1U1JaNklGc3VGcTJVVkVyQ3o0STZ0cQ";
    let key = format!("{}{}==", key, &"kYzAA"[..86 - key.len()]);
    let jwe = "eyJhbGciOiJSU0EtT0FFUCJ9.Zm9v.YmFy.YmF6.cXV4";
    for secret in ["Bearer 9f8a7s6d5f4g3h2j1k0l", "sig=Zm9vYmFyYmF6cXV4MTIz", &key, jwe] {
        let text = format!("the first line\n{secret}");
        let json = serde_json::json!({ "message": text }).to_string();
        let url: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        for text in [text, json, format!("mark=abc&next={url}")] {
            let clean = redact(&text);
            let value = secret.split([' ', '=']).find(|part| part.len() > 8).unwrap();
            assert!(clean.contains(REDACTED) && !clean.contains(value), "{clean} of {text}");
            assert!(clean.contains("line"), "{clean} of {text}");
        }
    }
    assert_eq!(redact("id-eyJhbGciOiJub25lIn0.eyJvIjoxfQ.x"), "id-[REDACTED]");
}

#[test]
fn what_is_escaped_without_end_is_no_credential() {
    let part = "a+b%2B\\d";
    let filter = Value::from(part.repeat(4000)).to_string();
    let document = serde_json::json!({ "request": { "filter": filter } }).to_string();
    assert!(!holds_credential(document.as_bytes()));
}

#[test]
fn a_document_holds_a_credential_in_any_spelling_and_no_inherited_value() {
    let (obtained, inherited) = ("obt\"ained-credential", "inherited-from-outside");
    let values = [(obtained, Which::Obtained), (inherited, Which::All)];
    let known = Live::new(values.into_iter());
    let mut rng = Rng::with_seed(1);
    for (name, spell) in SPELLINGS {
        let mut holds = |value: &str| {
            let document = format!("{{\"cursor\": \"{}\"}}", json(&spell(value, &mut rng)));
            is_credential_in(&known, document.as_bytes())
        };
        assert!(holds(obtained), "{name}");
        assert!(!holds(inherited), "{name}");
    }
}

/// Cases of each property, if `PROPTEST_CASES` does not want more. `PROPTEST_RNG_SEED` repeats a run.
const CASES: u32 = 1000;

fn config() -> ProptestConfig {
    let wanted = ProptestConfig::default();
    let cases = wanted.cases.max(CASES);
    ProptestConfig { cases, failure_persistence: None, ..wanted }
}

/// Text of `characters`, all as likely. The first is the simplest.
fn text_of(characters: &str, chars: Range<usize>) -> impl Strategy<Value = String> + use<> {
    let characters: Vec<char> = characters.chars().collect();
    let one = move |byte: u8| characters[usize::from(byte) % characters.len()];
    prop::collection::vec(any::<u8>(), chars)
        .prop_map(move |text| text.into_iter().map(&one).collect())
}

/// What a token is made of, and half of what a person may choose.
const WORD: &str = "aABCDEFGHIJKLMNOPQRSTUVWXYZbcdefghijklmnopqrstuvwxyz0123456789+/-_.~=";
const SPECIAL: &str =
    "aBc019 !\"\"\"#$%%%%&'()*+,-./:;<=>?@[\\\\\\]^_`{|}~\u{e4}\u{df}\u{5bc6}\u{1f600}";

fn value() -> impl Strategy<Value = String> {
    prop_oneof![text_of(WORD, 8..200), text_of(SPECIAL, 8..200), text_of(SPECIAL, 8..20)]
}

/// Text that is around a secret.
fn around() -> impl Strategy<Value = String> {
    prop_oneof![text_of(WORD, 0..60), text_of(&format!("{SPECIAL}\n"), 0..60)]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_random_value_is_hidden_in_random_text(
        value in value(),
        before in around(),
        behind in around(),
        which in 0..SPELLINGS.len(),
        seed in any::<u64>(),
    ) {
        let (name, spell) = SPELLINGS[which];
        let mut rng = Rng::with_seed(seed);
        let spelled = spell(&value, &mut rng);
        // A backslash before it would be of its first escape.
        let before = format!("{}{}", before.trim_end_matches('\\'), rng.choice(["=", "/", "\"", "x", ":"]).unwrap());
        let behind = format!("{}{behind}", rng.choice([" ", "\"", "&", "'", ","]).unwrap());
        check(&value, [&before, &spelled, &behind], name);
    }

    #[test]
    fn eight_characters_of_a_value_are_never_left(
        value in value(),
        around in prop::array::uniform2(around()),
        which in 0..SPELLINGS.len(),
        seed in any::<u64>(),
    ) {
        let known = Live::new([(&value[..], Which::Obtained)].into_iter());
        let spelled = SPELLINGS[which].1(&value, &mut Rng::with_seed(seed));
        let [before, behind] = around;
        let text = format!("{}={spelled} {behind}", before.trim_end_matches('\\'));
        let clean = redact_with(&known, &text);
        for secret in [&value, &spelled] {
            let characters: Vec<char> = secret.chars().collect();
            for eight in characters.windows(8).map(String::from_iter) {
                let is_around = before.contains(&eight) || behind.contains(&eight);
                prop_assert!(is_around || !clean.contains(&eight), "{eight:?} in {clean:?} of {text:?}");
            }
        }
        let again = redact_with(&known, &clean);
        prop_assert!(matches!(again, Cow::Borrowed(_)), "{again:?} of {clean:?}");
    }

    #[test]
    fn text_without_secrets_passes_as_it_is(value in value(), text in around()) {
        let known = Live::new([(&value[..], Which::Obtained)].into_iter());
        prop_assert!(matches!(redact_with(&known, &text), Cow::Borrowed(_)), "{text:?}");
    }

    #[test]
    fn a_json_line_stays_one_and_its_other_members_as_they_are(
        value in value(),
        others in prop::collection::btree_map("m[0-9]{1,3}", around(), 0..4),
        around in prop::array::uniform2(around()),
        which in 0..SPELLINGS.len(),
        seed in any::<u64>(),
    ) {
        let known = Live::new([(&value[..], Which::Obtained)].into_iter());
        let spelled = SPELLINGS[which].1(&value, &mut Rng::with_seed(seed));
        let mut members = Map::from_iter(others.into_iter().map(|(name, text)| (name, text.into())));
        members.insert("n".to_owned(), 17.into());
        let told = format!("{}={spelled} {}", around[0].trim_end_matches('\\'), around[1]);
        members.insert("SAID".to_owned(), told.into());
        let line = serde_json::to_string(&members).unwrap() + "\n";
        let mut clean: Map<String, Value> = serde_json::from_str(&redact_with(&known, &line)).unwrap();
        let (told, clean_told) = (members.remove("SAID").unwrap(), clean.remove("SAID").unwrap());
        prop_assert!(clean_told.as_str().unwrap().contains(REDACTED), "{clean_told} of {told}");
        prop_assert_eq!(clean, members);
    }
}

#[test]
fn a_json_line_stays_one_whatever_the_value_is() {
    for (value, want) in [
        ("12345678", r#"{"n":"[REDACTED]","o":{"a":"b"},"s":"x[REDACTED]y"}"#),
        (r#"{"a":"b"}"#, r#"{"n":12345678,"o":{"[REDACTED]":"[REDACTED]"},"s":"x12345678y"}"#),
        (r#"78,"o":{"a"#, r#"{"n":"[REDACTED]","[REDACTED]":{"[REDACTED]":"b"},"s":"x12345678y"}"#),
    ] {
        let known = Live::new([(value, Which::All)].into_iter());
        let line = r#"{"n":12345678,"o":{"a":"b"},"s":"x12345678y"}"#;
        assert_eq!(redact_with(&known, line), want);
    }
}
