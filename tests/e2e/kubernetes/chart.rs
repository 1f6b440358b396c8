//! The chart without a cluster: what it renders, and what it refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::oracle::DISCOVERY_ALONE;
use super::{Right, granted, right};
use crate::servers::part;

/// The chart's folder.
pub(super) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/helm/promring");
const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/helm/testdata");

/// Runs Helm with its files in `dir`.
fn helm(dir: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(part("HELM")).args(arguments).env("HOME", dir).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

pub(super) fn template(dir: &Path, arguments: &[&str]) -> Result<String, String> {
    let all = ["template", "promring", CHART, "--namespace", "metrics"];
    helm(dir, &all.into_iter().chain(arguments.iter().copied()).collect::<Vec<_>>())
}

fn cases() -> Vec<PathBuf> {
    let files = std::fs::read_dir(TESTDATA).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = files.filter(|path| path.to_str().unwrap().ends_with(".values.yaml")).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// The objects of a rendering.
pub(super) fn objects(text: &str) -> Vec<Value> {
    text.split("\n---\n").filter_map(|part| serde_saphyr::from_str::<Option<Value>>(part).unwrap()).collect()
}

/// The configuration that a rendering has.
fn configuration(objects: &[Value]) -> String {
    let map = objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
    map["data"]["prometheus.yml"].as_str().unwrap().to_owned()
}

/// What `promring check` says of a configuration.
fn check(dir: &Path, config: &str) -> (Option<i32>, String) {
    let path = dir.join("prometheus.yml");
    std::fs::write(&path, config).unwrap();
    let (code, stdout, stderr) = crate::support::run(&["check", path.to_str().unwrap()]);
    (code, stdout + &stderr)
}

#[test]
fn helm_finds_nothing_wrong_with_the_chart() {
    let dir = tempfile::tempdir().unwrap();
    for case in cases() {
        helm(dir.path(), &["lint", "--strict", CHART, "--values", case.to_str().unwrap()]).unwrap();
    }
}

/// `helm/testdata/NAME.values.yaml` renders to `NAME.golden.yaml`; PROMRING_UPDATE_GOLDEN=1 writes these.
#[test]
fn the_chart_renders_as_written_down() {
    let dir = tempfile::tempdir().unwrap();
    for case in cases() {
        let rendered = template(dir.path(), &["--values", case.to_str().unwrap()]).unwrap();
        let name = case.to_str().unwrap().strip_suffix(".values.yaml").unwrap();
        let golden = PathBuf::from(format!("{name}.golden.yaml"));
        if std::env::var_os("PROMRING_UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, rendered).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        for (number, (line, wanted)) in rendered.lines().zip(expected.lines()).enumerate() {
            assert_eq!(line, wanted, "{}:{}", golden.display(), number + 1);
        }
        assert_eq!(rendered.lines().count(), expected.lines().count(), "{}", golden.display());
    }
}

#[test]
fn promring_finds_nothing_wrong_with_the_configurations_of_the_chart() {
    let dir = tempfile::tempdir().unwrap();
    for case in cases() {
        let rendered = template(dir.path(), &["--values", case.to_str().unwrap()]).unwrap();
        let (code, said) = check(dir.path(), &configuration(&objects(&rendered)));
        assert_eq!(code, Some(0), "{}: {said}", case.display());
    }
}

/// The allocator's roles are what the configuration's discovery needs, unless the value says otherwise.
#[test]
fn the_roles_follow_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yml");
    let pods = ["pods"];
    let of_endpoints = ["endpoints", "pods", "services"];
    let everything =
        "attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}";
    let attached = ["jobs", "namespaces", "nodes", "pods", "replicasets"];
    // What may be seen, by namespace; empty: in all.
    type Seen<'a> = &'a [(&'a str, &'a [&'a str])];
    let cases: [(&str, &str, Seen<'_>); 16] = [
        ("- role: pod", "", &[("", &pods)]),
        ("- role: endpoints", "", &[("", &of_endpoints)]),
        ("- {role: node, attach_metadata: {namespace: true}}", "", &[("", &["nodes"])]),
        ("- role: ingress\n  - role: service", "", &[("", &["ingresses", "services"])]),
        (&format!("- {{role: pod, {everything}}}"), "", &[("", &attached)]),
        ("- {role: pod, api_server: 'https://elsewhere'}\n  - {role: node, kubeconfig_file: x}", "", &[]),
        ("- role: pod", "discovery.resources={ingresses}", &[("", &["ingresses"])]),
        ("- {role: pod, attach_metadata: {node: true}}", "discovery.namespaces={shop}", &[("shop", &pods)]),
        ("- role: node", "discovery.namespaces={shop}", &[]),
        // Namespaces that the configuration names.
        ("- {role: pod, namespaces: {names: [shop, bank]}}", "", &[("bank", &pods), ("shop", &pods)]),
        (
            "- {role: pod, namespaces: {names: [shop], own_namespace: true}}\n  - {role: ingress, namespaces: {names: [shop]}}",
            "",
            &[("metrics", &pods), ("shop", &["ingresses", "pods"])],
        ),
        (
            &format!("- {{role: pod, namespaces: {{names: [shop]}}, {everything}}}"),
            "",
            &[("", &["namespaces", "nodes"]), ("shop", &["jobs", "pods", "replicasets"])],
        ),
        (
            "- {role: endpoints, namespaces: {names: [shop]}}\n  - role: pod",
            "",
            &[("", &pods), ("shop", &["endpoints", "services"])],
        ),
        ("- {role: pod, namespaces: {names: ['', shop]}}", "", &[("", &pods)]),
        ("- {role: pod, namespaces: {names: [shop]}}", "discovery.resources={pods}", &[("", &pods)]),
        ("- {role: pod, namespaces: {names: [shop]}}", "discovery.namespaces={bank}", &[("bank", &pods)]),
    ];
    for (discovery, set, expected) in cases {
        let config = format!("scrape_configs:\n- job_name: a\n  kubernetes_sd_configs:\n  {discovery}\n");
        std::fs::write(&path, &config).unwrap();
        let file = format!("config={}", path.display());
        let mut arguments = vec!["--show-only", "templates/rbac.yaml", "--set-file", &file];
        arguments.extend(DISCOVERY_ALONE);
        arguments.extend(if set.is_empty() { vec![] } else { vec!["--set", set] });
        let rendered = objects(&template(dir.path(), &arguments).unwrap());
        let mut wanted: BTreeSet<Right> = BTreeSet::new();
        for verb in ["list", "watch"] {
            let all = expected
                .iter()
                .flat_map(|(namespace, kinds)| kinds.iter().map(move |kind| (kind, namespace)));
            wanted.extend(all.map(|(kind, namespace)| right(verb, kind, namespace)));
            wanted.extend(["pods", "statefulsets"].map(|resource| right(verb, resource, "metrics")));
        }
        assert_eq!(granted(&rendered), wanted, "{config} {set}");
    }
}

/// Where the roles are for some namespaces alone, the default configuration looks into these.
#[test]
fn the_default_configuration_asks_for_what_the_roles_allow() {
    let dir = tempfile::tempdir().unwrap();
    let others = ["--set", "externalLabels.cluster=north,remoteWrite[0].url=http://receiver/api/v1/write"];
    for (set, names) in [
        ("discovery.namespaces=null", Value::Null),
        ("discovery.namespaces={shop}", json!(["shop"])),
        ("discovery.namespaces={shop,bank}", json!(["shop", "bank"])),
    ] {
        let arguments = [&["--set", set], &others[..], &DISCOVERY_ALONE[..]].concat();
        let rendered = objects(&template(dir.path(), &arguments).unwrap());
        let text = configuration(&rendered);
        let config: Value = serde_saphyr::from_str(&text).unwrap();
        let discovery = &config["scrape_configs"][0]["kubernetes_sd_configs"];
        assert_eq!(discovery[0]["namespaces"]["names"], names, "{set}");
        let (code, said) = check(dir.path(), &text);
        assert_eq!(code, Some(0), "{set}: {said}");
        let seen =
            names.as_array().map_or(vec![""], |names| names.iter().filter_map(Value::as_str).collect());
        let mut wanted: BTreeSet<Right> = BTreeSet::new();
        for verb in ["list", "watch"] {
            wanted.extend(seen.iter().map(|namespace| right(verb, "pods", namespace)));
            wanted.extend(["pods", "statefulsets"].map(|resource| right(verb, resource, "metrics")));
        }
        assert_eq!(granted(&rendered), wanted, "{set}");
    }
}

#[test]
fn the_chart_refuses_values_that_cannot_be_meant() {
    let dir = tempfile::tempdir().unwrap();
    for (argument, reason) in [
        ("scraper.replica=3", "additional properties 'replica' not allowed"),
        ("scraper.replicas=many", "got string, want integer"),
        ("config=scrape_configs: [", "the value config is no YAML"),
        ("config=allocator: {}", "which the chart writes"),
        ("allocator.settings.members=reporting", "additional properties 'members' not allowed"),
        ("discovery.resources={secrets}", "discovery"),
        ("listenAddress=localhost", "listenAddress"),
        ("scraper.disruptionBudget.maxUnavailable=0", "want 1"),
        ("scraper.disruptionBudget.maxUnavailable=0%", "does not match"),
        ("scraper.disruptionBudget.maxUnavailable=2147483648", "maximum: got"),
        ("allocator.disruptionBudget.maxUnavailable=2147483648", "maximum: got"),
        ("scraper.terminationGracePeriodSeconds=2147483648", "maximum: got"),
        ("scraper.nodeSelector.zone=1", "got number, want string"),
        ("scraper.terminationGracePeriodSeconds=329", "has to be 330 at least"),
        ("secrets={a,b,a}", "secrets"),
        ("scraper.storage.size=10 GB", "'/scraper/storage/size'"),
        ("scraper.storage.size=10GB", "'/scraper/storage/size'"),
        ("scraper.storage.size=0Gi", "'/scraper/storage/size'"),
        ("scraper.storage.size=-1Gi", "'/scraper/storage/size'"),
    ] {
        let error = template(dir.path(), &["--set", argument]).expect_err(argument);
        assert!(error.contains(reason), "{argument}: {error}");
    }
    for size in ["10Gi", "1.5T", "500M", "1e10", "1000000000000"] {
        let argument = format!("scraper.storage.size={size}");
        template(dir.path(), &["--set-string", &argument]).expect(size);
    }
    let arguments =
        ["--set", "config=scrape_configs: []", "--set", "remoteWrite[0].url=http://receiver/api/v1/write"];
    let error = template(dir.path(), &arguments).unwrap_err();
    assert!(error.contains("default config only"), "{error}");
}

/// Helm reads whole numbers as floating-point ones, which have no room for all digits of some.
#[test]
fn a_number_that_helm_does_not_keep_as_it_is_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("values.yaml");
    let render = |modulus: &str| {
        let rule = format!("{{source_labels: [pod], action: hashmod, target_label: a, modulus: {modulus}}}");
        let values = format!("remoteWrite:\n- {{url: 'http://receiver', write_relabel_configs: [{rule}]}}\n");
        std::fs::write(&path, values).unwrap();
        template(dir.path(), &["--values", path.to_str().unwrap()])
    };
    for modulus in ["18446744073709551615", "9007199254740993"] {
        let error = render(modulus).expect_err(modulus);
        let reason = "remoteWrite[0].write_relabel_configs[0].modulus is a number of more than 15 digits";
        assert!(error.contains(reason), "{modulus}: {error}");
    }
    for modulus in ["8", "1000000", "999999999999999"] {
        let text = configuration(&objects(&render(modulus).unwrap()));
        assert!(text.contains(&format!("modulus: {modulus}\n")), "{text}");
    }
}

#[test]
fn a_whole_number_is_written_with_all_its_digits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("values.yaml");
    for number in ["1000000", "2147483647"] {
        let budget = format!("disruptionBudget: {{maxUnavailable: {number}}}");
        let scraper = format!("terminationGracePeriodSeconds: {number}, {budget}");
        std::fs::write(&path, format!("scraper: {{{scraper}}}\nallocator: {{{budget}}}\n")).unwrap();
        let text = template(dir.path(), &["--values", path.to_str().unwrap()]).unwrap();
        let count = |key: &str| text.matches(&format!(" {key}: {number}\n")).count();
        let counts = (count("terminationGracePeriodSeconds"), count("maxUnavailable"));
        assert_eq!(counts, (1, 2), "{number}: {text}");
    }
}

#[test]
fn a_role_that_there_is_not_is_refused_with_those_that_there_are() {
    let dir = tempfile::tempdir().unwrap();
    for discovery in ["{role: Pod}", "{}", "{role: pods, api_server: 'https://elsewhere'}"] {
        let path = dir.path().join("config.yml");
        let job = format!("{{job_name: a, kubernetes_sd_configs: [{discovery}]}}");
        std::fs::write(&path, format!("scrape_configs:\n- {job}\n")).unwrap();
        let file = format!("config={}", path.display());
        let error = template(dir.path(), &["--set-file", &file]).expect_err(discovery);
        let reason = "of the job a is none of pod, service, endpoints, endpointslice, node, ingress";
        assert!(error.contains(reason), "{discovery}: {error}");
    }
}

/// What promring takes for a key of `allocator:` the chart takes, and what it refuses fails before anything is installed.
#[test]
fn the_settings_of_the_allocator_are_checked_as_promring_checks_them() {
    let dir = tempfile::tempdir().unwrap();
    // What is taken, and what is refused.
    type Values<'a> = (&'a [&'a str], &'a [&'a str]);
    let cases: [(&str, Values<'_>); 13] = [
        ("lapse", (&["20s", "1m30s", "null"], &["20", "1x", "''", "s", "0s", "0", "1s1m", "true"])),
        ("settle", (&["0", "0s", "1h1ms", "null"], &["20", "1x", "-1s"])),
        ("kubeconfig_file", (&["/etc/kubeconfig", "null"], &["[a]"])),
        ("replicas", (&["1", "4294967295", "null"], &["0", "-1", "4294967296", "many"])),
        ("clients", (&["promring", "drop-in", "null"], &["prometheus", "''"])),
        ("strategy", (&["consistent-hashing", "per-node", "null"], &["per_node", "1"])),
        ("scraper_capacity", (&["1", "20000000", "null"], &["0", "-1", "a"])),
        ("serve_secrets", (&["true", "false", "null"], &["1", "''"])),
        ("rebalance_moves_per_minute", (&["0", "600", "4294967295", "null"], &["-1", "4294967296"])),
        (
            "rebalance_band",
            (
                &["1.05", "1.3", "1.1234", "2", "2.5", "10.5", "99.99", "100", "null"],
                &["1.04", "1", "100.5", "0.5", "a"],
            ),
        ),
        ("handover_lead", (&["20s"], &["20", "0s"])),
        ("handover_settle", (&["20s"], &["20", "0s"])),
        ("handover_prepare_max", (&["20s"], &["20", "0s"])),
    ];
    let schema: Value =
        serde_json::from_slice(&std::fs::read(format!("{CHART}/values.schema.json")).unwrap()).unwrap();
    let keys = &schema["properties"]["allocator"]["properties"]["settings"]["properties"];
    let keys: BTreeSet<&str> = keys.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(cases.iter().map(|(key, _)| *key).collect::<BTreeSet<_>>(), keys);
    let file = dir.path().join("values.yaml");
    let render = |arguments: &[&str]| {
        let only = ["--show-only", "templates/config.yaml"];
        Ok::<_, String>(configuration(&objects(&template(dir.path(), &[&only, arguments].concat())?)))
    };
    for (key, (good, bad)) in cases {
        for (value, is_good) in
            good.iter().map(|value| (value, true)).chain(bad.iter().map(|value| (value, false)))
        {
            std::fs::write(&file, format!("allocator: {{settings: {{{key}: {value}}}}}")).unwrap();
            let set = format!("allocator.settings.{key}={value}");
            // On the command line a fraction is a text for Helm.
            let ways = [["--values", file.to_str().unwrap()], ["--set", &set]];
            for arguments in &ways[..if key == "rebalance_band" { 2 } else { 1 }] {
                let rendered = render(arguments);
                if is_good {
                    let (code, said) = check(dir.path(), &rendered.expect(&set));
                    assert_eq!(code, Some(0), "{arguments:?}: {said}");
                } else {
                    let error = rendered.expect_err(&set);
                    assert!(error.contains(&format!("/allocator/settings/{key}")), "{arguments:?}: {error}");
                }
            }
            let statefulset = "allocator: {members: statefulset, statefulset: metrics/scraper";
            let (code, said) =
                check(dir.path(), &format!("scrape_configs: []\n{statefulset}, {key}: {value}}}\n"));
            assert_eq!(code == Some(0), is_good, "{key}: {value}: {said}");
        }
    }
    for other in ["bad", "selector", "statefulset"] {
        let error = render(&["--set", &format!("allocator.settings.{other}=a")]).unwrap_err();
        assert!(error.contains(&format!("additional properties '{other}' not allowed")), "{error}");
    }
}

/// A value that is null is one that the chart does not have: it is as if it were empty, or the schema names it.
#[test]
fn a_null_is_no_value() {
    let dir = tempfile::tempdir().unwrap();
    let plain = template(dir.path(), &[]).unwrap();
    let of_pods = ["resources", "nodeSelector", "tolerations", "affinity", "podAnnotations"];
    let roles = ["allocator", "scraper"].into_iter();
    let of_pods = roles.flat_map(|role| of_pods.map(move |value| format!("{role}.{value}")));
    let others =
        ["imagePullSecrets", "config", "remoteWrite", "externalLabels", "secrets", "allocator.settings"];
    let others = others.into_iter().chain([
        "image.tag",
        "discovery.resources",
        "discovery.namespaces",
        "scraper.storage.className",
        "security.tls.secret",
        "security.tls.mutual",
    ]);
    for value in of_pods.chain(others.map(str::to_owned)) {
        let rendered = template(dir.path(), &["--set", &format!("{value}=null")]).expect(&value);
        if !value.ends_with("resources") || value.starts_with("discovery") {
            assert_eq!(objects(&rendered), objects(&plain), "{value}");
        } else {
            assert!(rendered.contains("resources:\n          {}"), "{value}");
        }
    }
    for (value, missing) in [
        ("image", "'image'"),
        ("image.repository", "'repository'"),
        ("discovery", "'discovery'"),
        ("listenAddress", "'listenAddress'"),
        ("allocator", "'allocator'"),
        ("allocator.replicas", "'replicas'"),
        ("allocator.disruptionBudget", "'disruptionBudget'"),
        ("allocator.disruptionBudget.enabled", "'enabled'"),
        ("scraper", "'scraper'"),
        ("scraper.replicas", "'replicas'"),
        ("scraper.storage", "'storage'"),
        ("scraper.storage.size", "'size'"),
        ("scraper.disruptionBudget.maxUnavailable", "'maxUnavailable'"),
        ("scraper.terminationGracePeriodSeconds", "'terminationGracePeriodSeconds'"),
        ("security", "'security'"),
        ("security.tls", "'tls'"),
        ("security.tokens", "'tokens'"),
        ("log", "'log'"),
        ("log.level", "'level'"),
    ] {
        let error = template(dir.path(), &["--set", &format!("{value}=null")]).expect_err(value);
        assert!(error.contains(&format!("missing property {missing}")), "{value}: {error}");
    }
}

/// Kubernetes takes texts for names, whatever they look like.
#[test]
fn names_that_look_like_numbers_stay_texts() {
    let dir = tempfile::tempdir().unwrap();
    for odd in ["123", "1.5", "1e3", "true", "null", "0x1f"] {
        let path = dir.path().join("values.json");
        let values = json!({
            "secrets": [odd],
            "security": {"tls": {"secret": odd}},
            "image": {"repository": odd, "tag": odd},
            "imagePullSecrets": [{"name": odd}],
            "discovery": {"namespaces": [odd]},
            "allocator": {"nodeSelector": {odd: odd}, "podAnnotations": {odd: odd}},
            "scraper": {"storage": {"className": odd, "size": "10"}},
            "externalLabels": {"a": odd},
            "log": {"level": odd},
        });
        std::fs::write(&path, values.to_string()).unwrap();
        // All are names of namespaces for Helm, and some of releases for the chart.
        let release = if odd.starts_with(|first: char| first.is_ascii_digit()) { "yes" } else { odd };
        let arguments = ["template", release, CHART, "--namespace", odd, "--values"];
        let rendered = helm(dir.path(), &[&arguments[..], &[path.to_str().unwrap()]].concat()).expect(odd);
        let rendered = objects(&rendered);
        for object in &rendered {
            for pointer in
                ["/metadata/name", "/metadata/namespace", "/metadata/labels/app.kubernetes.io~1instance"]
            {
                let name = object.pointer(pointer);
                assert!(name.is_none_or(Value::is_string), "{odd}: {pointer} of {object}");
            }
        }
        let pods = rendered.iter().filter_map(|object| object.pointer("/spec/template/spec"));
        let mut volumes = 0;
        for pod in pods {
            let image = format!("{odd}:{odd}");
            assert_eq!(pod["containers"][0]["image"], *image, "{odd}");
            let secrets = pod["volumes"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|volume| volume.pointer("/secret/secretName"));
            for secret in secrets {
                assert_eq!(*secret, *odd);
                volumes += 1;
            }
        }
        assert_eq!(volumes, 4, "{odd}: a secret and a certificate for each of the two");
        let set = rendered.iter().find(|object| object["kind"] == "StatefulSet").unwrap();
        let claim = &set["spec"]["volumeClaimTemplates"][0]["spec"];
        assert_eq!(
            (&claim["storageClassName"], &claim["resources"]["requests"]["storage"]),
            (&Value::from(odd), &Value::from("10"))
        );
    }
}

/// A Service's name begins with a letter and has no dot (DNS-1035), while Helm takes both for a release's name.
#[test]
fn a_release_whose_name_makes_no_service_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let render = |name: &str| helm(dir.path(), &["template", name, CHART, "--namespace", "metrics"]);
    for name in ["1rel", "my.rel", "my.promring", "0"] {
        let error = render(name).expect_err(name);
        assert!(error.contains(&format!("the release's name \"{name}\" cannot begin")), "{name}: {error}");
    }
    let longest = format!("a{}z", "-1".repeat(25));
    for name in ["r", "rel-1", "my-promring", &longest] {
        let rendered = objects(&render(name).expect(name));
        for service in rendered.iter().filter(|object| object["kind"] == "Service") {
            let name = service["metadata"]["name"].as_str().unwrap();
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
            assert!(name.chars().all(fits) && !name.ends_with('-'), "{name}");
        }
    }
}

/// What is the whole cluster's must not be that of another release, whatever namespaces and releases are called.
#[test]
fn no_two_releases_have_a_name_of_the_cluster_in_common() {
    let dir = tempfile::tempdir().unwrap();
    // What is in a release's own namespace is its own; what both may see is in the whole cluster, or in one that they share.
    let names = |namespace: &str, release: &str, set: &[&str]| -> BTreeSet<(String, String, String)> {
        let template = ["template", release, CHART, "--namespace", namespace];
        let rendered = helm(dir.path(), &[&template[..], set].concat()).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        objects(&rendered)
            .iter()
            .map(|object| {
                let metadata = &object["metadata"];
                (text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
            })
            .filter(|(kind, of, _)| kind.starts_with("ClusterRole") || of != namespace)
            .collect()
    };
    let shared = ["--set", "discovery.namespaces={shop}"];
    for set in [&[][..], &shared[..]] {
        for (one, other) in [(("a", "b-c"), ("a-b", "c")), (("a", "promring"), ("b", "promring"))] {
            let (one, other) = (names(one.0, one.1, set), names(other.0, other.1, set));
            assert_eq!((one.len(), other.len()), (4, 4), "roles and bindings for discovery and callers");
            assert!(one.is_disjoint(&other), "{one:?}");
        }
    }
}

/// Helm does not tell how a number was written (`010`, `1e3`), so a namespace whose name looks like one has to stand in quotes.
#[test]
fn a_namespace_of_the_configuration_that_is_no_text_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yml");
    let render = |name: &str| {
        let discovery = format!("[{{role: pod, namespaces: {{names: [shop, {name}]}}}}]");
        let job = format!("{{job_name: numbers, kubernetes_sd_configs: {discovery}}}");
        std::fs::write(&path, format!("scrape_configs:\n- {job}\n")).unwrap();
        let file = format!("config={}", path.display());
        template(dir.path(), &["--show-only", "templates/rbac.yaml", "--set-file", &file])
    };
    for name in ["1234", "1e3", "010", "12345678901234567890", "1.5", "true", "~", "[a]"] {
        let error = render(name).expect_err(name);
        assert!(error.contains("of the job numbers is a number or another value"), "{name}: {error}");
    }
    for name in ["1234", "1e3", "010", "12345678901234567890"] {
        let granted = granted(&objects(&render(&format!("'{name}'")).unwrap()));
        assert!(granted.contains(&right("watch", "pods", name)), "{name}: {granted:?}");
    }
}

/// What a scraper that ends may take has to be as long as what its configuration lets it wait.
#[test]
fn the_grace_period_covers_what_a_scraper_may_take_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yml");
    for (scraper, least) in [
        ("", 330),
        ("scraper:\n", 330),
        ("scraper: {heartbeat: 1s}\n", 330),
        ("scraper: {fence_max: 10s}\n", 40),
        ("scraper: {fence_max: 1500ms}\n", 32),
        ("scraper: {fence_max: 1h1m1s}\n", 3_691),
    ] {
        std::fs::write(&path, format!("scrape_configs: []\n{scraper}")).unwrap();
        let file = format!("config={}", path.display());
        let render = |seconds: u32| {
            let grace = format!("scraper.terminationGracePeriodSeconds={seconds}");
            template(dir.path(), &["--set-file", &file, "--set", &grace])
        };
        let error = render(least - 1).expect_err(scraper);
        assert!(error.contains(&format!("has to be {least} at least")), "{scraper}: {error}");
        render(least).expect(scraper);
    }
}

/// The chart appends its key `allocator:`, which has to be a part of what processes read.
#[test]
fn a_configuration_that_nothing_can_be_appended_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yml");
    let render = |config: &str| {
        std::fs::write(&path, config).unwrap();
        let file = format!("config={}", path.display());
        template(dir.path(), &["--show-only", "templates/config.yaml", "--set-file", &file])
    };
    for config in [
        "scrape_configs: []\n...\n",
        "scrape_configs: []\n...\n# The end.\n",
        "scrape_configs: []\n---\nglobal: {}\n",
        "{scrape_configs: []}\n",
        "  scrape_configs: []\n",
    ] {
        let error = render(config).expect_err(config);
        assert!(error.contains("cannot append its key allocator"), "{config}: {error}");
    }
    for config in [
        "---\nscrape_configs: []\n",
        "scrape_configs: []",
        "# ...\nscrape_configs: []\nglobal:\n  # ...\n",
        "  # Ours.\nscrape_configs: []\n",
    ] {
        let rendered = objects(&render(config).unwrap()).remove(0);
        let text = rendered["data"]["prometheus.yml"].as_str().unwrap();
        let written: Value = serde_saphyr::from_str(text).unwrap();
        assert_eq!(written["allocator"]["members"], "statefulset", "{text}");
    }
}

/// How many pods may be evicted at once, by the component that they are of.
#[test]
fn budgets_for_disruptions_are_there_unless_they_are_switched_off_or_a_pod_is_the_only_one() {
    let dir = tempfile::tempdir().unwrap();
    let budgets = |set: &str| -> BTreeMap<String, Value> {
        let rendered = objects(&template(dir.path(), &["--set", set]).unwrap());
        let workloads: Vec<&Value> = rendered
            .iter()
            .filter(|object| object["kind"] == "Deployment" || object["kind"] == "StatefulSet")
            .collect();
        let budgets = rendered.iter().filter(|object| object["kind"] == "PodDisruptionBudget");
        let of = |budget: &Value| {
            // It means the pods of one of the two, and no others.
            let meant: Vec<&&Value> = workloads
                .iter()
                .filter(|workload| workload["spec"]["selector"] == budget["spec"]["selector"])
                .collect();
            let [workload] = meant[..] else { panic!("{budget}") };
            (workload["kind"].as_str().unwrap().to_owned(), budget["spec"]["maxUnavailable"].clone())
        };
        budgets.map(of).collect()
    };
    let both = |allocator: Value, scraper: Value| {
        BTreeMap::from([("Deployment".to_owned(), allocator), ("StatefulSet".to_owned(), scraper)])
    };
    assert_eq!(budgets("scraper.replicas=3"), both(1.into(), 1.into()));
    let set = "allocator.replicas=3,allocator.disruptionBudget.maxUnavailable=2,scraper.disruptionBudget.maxUnavailable=10%";
    assert_eq!(budgets(set), both(2.into(), "10%".into()));
    assert_eq!(budgets("allocator.replicas=1"), BTreeMap::from([("StatefulSet".to_owned(), 1.into())]));
    let off = "allocator.disruptionBudget.enabled=false,scraper.disruptionBudget.enabled=false";
    assert_eq!(budgets(off), BTreeMap::new());
}

#[test]
fn both_roles_listen_where_the_value_says() {
    let dir = tempfile::tempdir().unwrap();
    for (set, wanted) in [("log.level=info", "0.0.0.0"), ("listenAddress=[::]", "[::]")] {
        let rendered = objects(&template(dir.path(), &["--set", set]).unwrap());
        let args = rendered.iter().filter_map(|object| {
            object["spec"]["template"]["spec"]["containers"][0]["args"].as_array()?.last()?.as_str()
        });
        let args: BTreeSet<String> = args.map(str::to_owned).collect();
        assert_eq!(args, BTreeSet::from([format!("{wanted}:8080"), format!("{wanted}:8081")]));
    }
}
