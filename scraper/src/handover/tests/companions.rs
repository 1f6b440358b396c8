//! Targets that share a key.

use promring_model::handover::Grant;
use promring_model::labels::LabelsBuilder;
use promring_model::slots::Slots;
use promring_model::target::Target;

use super::node::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_that_share_a_key_have_slots_of_their_own_and_one_alone_has_those_of_the_key() {
    let scene = Scene::start("x 1\n").await;
    let Scene { receiver, config, target: one, .. } = &scene;
    let mut labels = LabelsBuilder::from_labels(&one.labels);
    labels.set("__param_of", "another");
    let two = Target::from_final_labels(&config.scrape_configs[0], labels.build()).unwrap();
    assert!(one.key == two.key && one.id != two.id);
    let node = Node::start("a", config).await;
    // One that is late carries the time of its start, so that the right time has to come once only.
    let scraped = async |what: &str, slots: Slots| {
        let before = samples(receiver, "x").len();
        until(what, || {
            samples(receiver, "x")[before..].iter().any(|(time, _)| slots.slot_at(*time) == *time)
        })
        .await;
    };
    let of_key = Slots::new(one.interval, one.key);
    let apart = [one, &two].map(|target| Slots::apart(target.interval, target.id));
    let grant = Grant::default();
    node.told(1, &[(one, grant)], &[]);
    scraped("it is alone", of_key).await;
    node.told(2, &[(one, grant), (&two, grant)], &[]);
    scraped("the first of two", apart[0]).await;
    scraped("the second of two", apart[1]).await;
    node.told(3, &[(&two, grant)], &[]);
    scraped("the second is alone", of_key).await;
    node.stop().await;
}
