//! Names of Unicode classes: the general categories and the scripts that Go knows, read as loosely as Go reads them.

use super::ClassItem;

const CATEGORIES: &[&str] = &[
    "C", "Cc", "Cf", "Cn", "Co", "L", "Lc", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd",
    "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp",
    "Zs",
];

const LONG_CATEGORIES: &[(&str, &str)] = &[
    ("Casedletter", "Lc"),
    ("Closepunctuation", "Pe"),
    ("Cntrl", "Cc"),
    ("Combiningmark", "M"),
    ("Connectorpunctuation", "Pc"),
    ("Control", "Cc"),
    ("Currencysymbol", "Sc"),
    ("Dashpunctuation", "Pd"),
    ("Decimalnumber", "Nd"),
    ("Digit", "Nd"),
    ("Enclosingmark", "Me"),
    ("Finalpunctuation", "Pf"),
    ("Format", "Cf"),
    ("Initialpunctuation", "Pi"),
    ("Letter", "L"),
    ("Letternumber", "Nl"),
    ("Lineseparator", "Zl"),
    ("Lowercaseletter", "Ll"),
    ("Mark", "M"),
    ("Mathsymbol", "Sm"),
    ("Modifierletter", "Lm"),
    ("Modifiersymbol", "Sk"),
    ("Nonspacingmark", "Mn"),
    ("Number", "N"),
    ("Openpunctuation", "Ps"),
    ("Other", "C"),
    ("Otherletter", "Lo"),
    ("Othernumber", "No"),
    ("Otherpunctuation", "Po"),
    ("Othersymbol", "So"),
    ("Paragraphseparator", "Zp"),
    ("Privateuse", "Co"),
    ("Punct", "P"),
    ("Punctuation", "P"),
    ("Separator", "Z"),
    ("Spaceseparator", "Zs"),
    ("Spacingmark", "Mc"),
    ("Symbol", "S"),
    ("Titlecaseletter", "Lt"),
    ("Unassigned", "Cn"),
    ("Uppercaseletter", "Lu"),
];

/// Scripts, sorted, as [`canonical`] writes them.
const SCRIPTS: &[&str] = &[
    "Adlam",
    "Ahom",
    "Anatolianhieroglyphs",
    "Arabic",
    "Armenian",
    "Avestan",
    "Balinese",
    "Bamum",
    "Bassavah",
    "Batak",
    "Bengali",
    "Bhaiksuki",
    "Bopomofo",
    "Brahmi",
    "Braille",
    "Buginese",
    "Buhid",
    "Canadianaboriginal",
    "Carian",
    "Caucasianalbanian",
    "Chakma",
    "Cham",
    "Cherokee",
    "Chorasmian",
    "Common",
    "Coptic",
    "Cuneiform",
    "Cypriot",
    "Cyprominoan",
    "Cyrillic",
    "Deseret",
    "Devanagari",
    "Divesakuru",
    "Dogra",
    "Duployan",
    "Egyptianhieroglyphs",
    "Elbasan",
    "Elymaic",
    "Ethiopic",
    "Georgian",
    "Glagolitic",
    "Gothic",
    "Grantha",
    "Greek",
    "Gujarati",
    "Gunjalagondi",
    "Gurmukhi",
    "Han",
    "Hangul",
    "Hanifirohingya",
    "Hanunoo",
    "Hatran",
    "Hebrew",
    "Hiragana",
    "Imperialaramaic",
    "Inherited",
    "Inscriptionalpahlavi",
    "Inscriptionalparthian",
    "Javanese",
    "Kaithi",
    "Kannada",
    "Katakana",
    "Kawi",
    "Kayahli",
    "Kharoshthi",
    "Khitansmallscript",
    "Khmer",
    "Khojki",
    "Khudawadi",
    "Lao",
    "Latin",
    "Lepcha",
    "Limbu",
    "Lineara",
    "Linearb",
    "Lisu",
    "Lycian",
    "Lydian",
    "Mahajani",
    "Makasar",
    "Malayalam",
    "Mandaic",
    "Manichaean",
    "Marchen",
    "Masaramgondi",
    "Medefaidrin",
    "Meeteimayek",
    "Mendekikakui",
    "Meroiticcursive",
    "Meroitichieroglyphs",
    "Miao",
    "Modi",
    "Mongolian",
    "Mro",
    "Multani",
    "Myanmar",
    "Nabataean",
    "Nagmundari",
    "Nandinagari",
    "Newa",
    "Newtailue",
    "Nko",
    "Nushu",
    "Nyiakengpuachuehmong",
    "Ogham",
    "Olchiki",
    "Oldhungarian",
    "Olditalic",
    "Oldnortharabian",
    "Oldpermic",
    "Oldpersian",
    "Oldsogdian",
    "Oldsoutharabian",
    "Oldturkic",
    "Olduyghur",
    "Oriya",
    "Osage",
    "Osmanya",
    "Pahawhhmong",
    "Palmyrene",
    "Paucinhau",
    "Phagspa",
    "Phoenician",
    "Psalterpahlavi",
    "Rejang",
    "Runic",
    "Samaritan",
    "Saurashtra",
    "Sharada",
    "Shavian",
    "Siddham",
    "Signwriting",
    "Sinhala",
    "Sogdian",
    "Sorasompeng",
    "Soyombo",
    "Sundanese",
    "Sylotinagri",
    "Syriac",
    "Tagalog",
    "Tagbanwa",
    "Taile",
    "Taitham",
    "Taiviet",
    "Takri",
    "Tamil",
    "Tangsa",
    "Tangut",
    "Telugu",
    "Thaana",
    "Thai",
    "Tibetan",
    "Tifinagh",
    "Tirhuta",
    "Toto",
    "Ugaritic",
    "Vai",
    "Vithkuqi",
    "Wancho",
    "Warangciti",
    "Yezidi",
    "Yi",
    "Zanabazarsquare",
];

/// The class of the property `name`; None: there is none of that name.
pub(super) fn property(name: &str, negated: bool) -> Option<ClassItem> {
    let name = canonical(name);
    let table = |ranges, negated| Some(ClassItem::Table { ranges, negated });
    let category = |name: &str, negated| Some(ClassItem::Property { name: format!("gc={name}"), negated });
    match name.as_str() {
        "Any" => return table(&[('\0', '\u{10FFFF}')], negated),
        "Ascii" => return table(&[('\0', '\x7F')], negated),
        "Assigned" => return category("Cn", !negated),
        // Surrogates: no text holds one.
        "Cs" | "Surrogate" => return table(&[], negated),
        _ => {}
    }
    if let Ok(at) = CATEGORIES.binary_search(&name.as_str()) {
        return category(CATEGORIES[at], negated);
    }
    if let Ok(at) = LONG_CATEGORIES.binary_search_by(|(long, _)| (*long).cmp(&name)) {
        return category(LONG_CATEGORIES[at].1, negated);
    }
    let at = SCRIPTS.binary_search(&name.as_str()).ok()?;
    Some(ClassItem::Property { name: format!("sc={}", SCRIPTS[at]), negated })
}

/// Without `_`, `-` and spaces, the first letter a capital and the others small.
fn canonical(name: &str) -> String {
    let mut canonical = String::with_capacity(name.len());
    for char in name.chars().filter(|char| !matches!(char, '_' | '-' | ' ')) {
        canonical.push(if canonical.is_empty() {
            char.to_ascii_uppercase()
        } else {
            char.to_ascii_lowercase()
        });
    }
    canonical
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_the_regex_crate_knows_each_name() {
        assert!(CATEGORIES.is_sorted() && SCRIPTS.is_sorted());
        assert!(LONG_CATEGORIES.is_sorted());
        let long = LONG_CATEGORIES.iter().map(|(long, _)| long);
        for name in CATEGORIES.iter().chain(SCRIPTS).chain(long) {
            let Some(ClassItem::Property { name, .. }) = property(name, false) else { panic!("{name}") };
            regex::Regex::new(&format!("\\p{{{name}}}")).expect("a class");
        }
    }

    #[test]
    fn names_are_read_loosely_but_must_be_written_out() {
        assert!(property("greek", false).is_some());
        assert!(property("OLD_italic", false).is_some());
        assert!(property("uppercase letter", true).is_some());
        for unknown in ["Grek", "Alphabetic", "isGreek", "sc=Greek", "", "_"] {
            assert_eq!(property(unknown, false), None, "{unknown}");
        }
    }
}
