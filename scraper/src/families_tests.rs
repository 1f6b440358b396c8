//! What targets say of their families, and who shares it.

use promring_proto::remote_write::v1::MetricType;

use super::*;

/// What a body says, a line a family: name, type, help.
struct Target {
    families: Families,
    shared: Arc<Shared>,
}

impl Target {
    fn new(shared: &Arc<Shared>) -> Self {
        Self { families: Families::new(shared), shared: Arc::clone(shared) }
    }

    /// Gives the number of each family, and whether its series are unsettled.
    fn scrape(&mut self, families: &[(&str, MetricType, &str)]) -> Vec<(u32, bool)> {
        let mut place = Place::default();
        let mut found = Vec::new();
        for (name, kind, help) in families {
            // In two lines, as the text formats have it.
            let of = |kind, help| Metadata { family: (*name).into(), kind, help, unit: None };
            self.families.describe(&of(None, Some((*help).into())), &mut place);
            self.families.describe(&of(Some(*kind), None), &mut place);
            found.push((place.number, place.unsettled));
        }
        self.families.settle();
        found
    }

    fn help(&self, number: u32) -> String {
        let family = self.families.get(number).unwrap();
        self.shared.symbols.reading().text(family.help).to_owned()
    }
}

fn kept(shared: &Shared) -> usize {
    // Strings that were given back are freed with the next new one.
    let mut symbols = Vec::new();
    shared.symbols.intern(["one more"], &mut symbols);
    shared.symbols.release(symbols);
    shared.symbols.reading().kept()
}

const TWO: [(&str, MetricType, &str); 2] =
    [("a_total", MetricType::Counter, "Help of a."), ("b", MetricType::Gauge, "Help of b.")];

#[test]
fn a_family_keeps_its_number_wherever_it_stands() {
    let mut target = Target::new(&Arc::default());
    let numbers: Vec<u32> = target.scrape(&TWO).into_iter().map(|(number, _)| number).collect();
    assert_eq!(target.scrape(&TWO), [(numbers[0], false), (numbers[1], false)]);
    let turned = [TWO[1], TWO[0]];
    assert_eq!(target.scrape(&turned), [(numbers[1], false), (numbers[0], false)]);
    assert_eq!(target.help(numbers[0]), "Help of a.");
}

#[test]
fn series_of_a_new_family_or_of_another_type_are_unsettled() {
    let mut target = Target::new(&Arc::default());
    assert!(target.scrape(&TWO[..1])[0].1);
    assert_eq!(
        target.scrape(&TWO).into_iter().map(|(_, unsettled)| unsettled).collect::<Vec<_>>(),
        [false, true]
    );
    let other = [TWO[0], ("b", MetricType::Histogram, "Other help.")];
    assert_eq!(
        target.scrape(&other).into_iter().map(|(_, unsettled)| unsettled).collect::<Vec<_>>(),
        [false, true]
    );
    let number = target.scrape(&other)[1].0;
    assert_eq!(target.help(number), "Other help.");
}

#[test]
fn equal_targets_share_one_list_and_all_of_them_their_strings() {
    let shared = Arc::default();
    let mut targets: Vec<Target> = (0..1_000).map(|_| Target::new(&shared)).collect();
    targets.iter_mut().for_each(|target| drop(target.scrape(&TWO)));
    let first = Arc::clone(&targets[0].families.list);
    assert!(targets.iter().all(|target| Arc::ptr_eq(&target.families.list, &first)));
    let held = kept(&shared);
    // One of them says something else of b, and then the same again.
    let other = [TWO[0], ("b", MetricType::Gauge, "Another help.")];
    targets[7].scrape(&other);
    assert!(!Arc::ptr_eq(&targets[7].families.list, &first));
    assert_eq!((targets[7].help(10), targets[8].help(10)), ("Another help.".into(), "Help of b.".into()));
    assert_eq!(kept(&shared), held + 1);
    targets[7].scrape(&TWO);
    assert!(Arc::ptr_eq(&targets[7].families.list, &first));
    assert_eq!(kept(&shared), held);
    drop((targets, first));
    assert_eq!(kept(&shared), 1, "nobody holds any of it any more");
}

#[test]
fn each_family_is_told_once_over_all_targets() {
    let shared = Arc::default();
    let (mut one, mut other) = (Target::new(&shared), Target::new(&shared));
    one.scrape(&TWO);
    other.scrape(&[TWO[1], ("c", MetricType::Summary, "Help of c.")]);
    let mut told = Vec::new();
    shared.families.for_each(&shared, |name, kind, help, unit| {
        told.push((name.to_owned(), kind, help.to_owned(), unit.to_owned()));
    });
    told.sort();
    let of = |name: &str, kind, help: &str| (name.to_owned(), kind, help.to_owned(), String::new());
    assert_eq!(
        told,
        [
            of("a_total", MetricType::Counter, "Help of a."),
            of("b", MetricType::Gauge, "Help of b."),
            of("c", MetricType::Summary, "Help of c.")
        ]
    );
    drop((one, other));
    shared.families.for_each(&shared, |name, _, _, _| panic!("{name} belongs to nobody"));
}

#[test]
fn too_many_families_and_too_long_texts_are_left_out() {
    let mut target = Target::new(&Arc::default());
    let names: Vec<String> = (0..=FAMILIES_MAX).map(|at| format!("f{at}")).collect();
    let families: Vec<_> = names.iter().map(|name| (name.as_str(), MetricType::Gauge, "")).collect();
    let numbers = target.scrape(&families);
    assert_eq!(numbers[FAMILIES_MAX].0, 0);
    assert_eq!(numbers[FAMILIES_MAX - 1].0 as usize, FAMILIES_MAX + REPORT_SERIES.len());
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    let mut target = Target::new(&Arc::default());
    assert_eq!(target.scrape(&[(&long, MetricType::Gauge, "")])[0].0, 0);
    let number = target.scrape(&[("a", MetricType::Gauge, &long)])[0].0;
    assert_eq!(target.help(number), "");
}

#[test]
fn a_series_belongs_to_a_family_by_its_name() {
    for (series, family, kind, belongs) in [
        ("a", "a", MetricType::Gauge, true),
        ("a_total", "a", MetricType::Gauge, false),
        ("a_total", "a", MetricType::Counter, true),
        ("a_total", "a_total", MetricType::Counter, true),
        ("ab", "a", MetricType::Counter, false),
        ("h_bucket", "h", MetricType::Histogram, true),
        ("h", "h", MetricType::Histogram, true),
        ("h_total", "h", MetricType::Histogram, false),
        ("g_gsum", "g", MetricType::GaugeHistogram, true),
        ("s_count", "s", MetricType::Summary, true),
        ("s_bucket", "s", MetricType::Summary, false),
        ("i_info", "i", MetricType::Info, true),
        ("x", "", MetricType::Unknown, false),
    ] {
        assert_eq!(is_part_of(series, family, kind), belongs, "{series} of {family}");
    }
}
