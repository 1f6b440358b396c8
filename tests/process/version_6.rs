//! Everything over IPv6, and the same servers over IPv4: what `--listen [::]:PORT` is for.

use promring_testkit::exporter::{Fleet, FleetOptions};

use crate::support::{Process, eventually, free_port, get, get_json};

#[tokio::test(flavor = "multi_thread")]
async fn both_roles_and_a_target_are_reached_by_version_6_and_the_roles_by_version_4_as_well() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("this machine has no IPv6, not even a loopback address: nothing is tested");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = FleetOptions { targets: 1, host: "::1".parse().unwrap(), ..FleetOptions::default() };
    let fleet = Fleet::start(options).await.unwrap();
    let target = fleet.exporters()[0].address();
    let config = dir.path().join("prometheus.yml");
    let text = format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: six, static_configs: [{{targets: ['{target}']}}]}}]
allocator: {{settle: 0s}}
"
    );
    std::fs::write(&config, text).unwrap();
    let (config, data) = (config.to_str().unwrap(), dir.path().join("data"));
    let [allocator_port, scraper_port] = [free_port(), free_port()];
    let [allocator_listen, scraper_listen] =
        [allocator_port, scraper_port].map(|port| format!("[::]:{port}"));
    let access = format!("http://[::1]:{allocator_port}");
    let mut allocator = Process::promring(
        "allocator",
        &["allocator", "--config", config, "--listen", &allocator_listen],
        dir.path(),
    );
    let role = ["scraper", "--name", "scraper-0", "--config", config, "--data-dir", data.to_str().unwrap()];
    let places = ["--listen", &scraper_listen, "--allocator", &access];
    let mut scraper = Process::promring("scraper", &[&role[..], &places].concat(), dir.path());
    for port in [allocator_port, scraper_port] {
        for host in ["127.0.0.1", "[::1]"] {
            let url = format!("http://{host}:{port}/livez");
            eventually(&url, async || get(&url).await).await;
        }
    }
    eventually("the target is up", async || {
        let list = get_json(&format!("http://[::1]:{allocator_port}/api/v1/targets")).await?;
        let target_seen = &list["data"]["activeTargets"][0];
        assert!(target_seen.is_null() || target_seen["labels"]["instance"] == target.to_string());
        (target_seen["health"] == "up").then_some(())
    })
    .await;
    assert!(scraper.terminate().success(), "{}", scraper.log());
    assert!(allocator.terminate().success(), "{}", allocator.log());
}
