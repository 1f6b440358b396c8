//! Targets that share a key.

use promring_model::handover::Grant;
use promring_model::labels::LabelsBuilder;
use promring_model::slots::Slots;
use promring_model::target::Target;

use super::node::*;

/// A target that has the key of the scene's.
fn companion(scene: &Scene) -> Target {
    let mut labels = LabelsBuilder::from_labels(&scene.target.labels);
    labels.set("__param_of", "another");
    let two = Target::from_final_labels(&scene.config.scrape_configs[0], labels.build()).unwrap();
    assert!(scene.target.key == two.key && scene.target.id != two.id);
    two
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_that_share_a_key_have_slots_of_their_own_and_one_alone_has_those_of_the_key() {
    let scene = Scene::start("x 1\n").await;
    let Scene { receiver, config, target: one, .. } = &scene;
    let two = companion(&scene);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_move_the_one_that_goes_before_t_is_marked_and_the_other_is_not() {
    for goes in [0, 1] {
        let scene = Scene::start("x_OF 1\n").await;
        let (a, b) = scene.two_nodes().await;
        let both = [scene.target.clone(), companion(&scene)];
        let [gone, living] = [&both[goes], &both[1 - goes]];
        let [of_gone, of_living] = if goes == 0 { ["x_", "x_another"] } else { ["x_another", "x_"] };
        let as_granted = |grant: Grant| [(&both[0], grant), (&both[1], grant)];
        let received = |name: &str| samples(&scene.receiver, name);
        a.told(1, &as_granted(Grant::default()), &[]);
        until("a scrapes both", || ["x_", "x_another"].iter().all(|name| received(name).len() >= 2)).await;
        let unsettled = [(M, terms(&a, &b, None, false, false))];
        a.told(2, &as_granted(outgoing()), &unsettled);
        b.told(2, &as_granted(incoming()), &unsettled);
        b.reports("it is prepared", |report| report.prepared).await;
        let at = slot_after(gone, 700) + 20;
        a.told(3, &as_granted(outgoing()), &[(M, terms(&a, &b, Some(at), false, false))]);
        a.reports("it stops at T", |report| report.settled == Some(at)).await;
        let moves = [(M, terms(&a, &b, Some(at), true, false))];
        b.told(3, &as_granted(incoming()), &moves);
        until_time(at - 150).await;
        let next = Slots::apart(gone.interval, gone.id).next_after(at - 150);
        // Its markers are the taker's business by now, unless its next slot is the giver's.
        a.told(4, &[(living, outgoing())], &moves);
        b.told_all(4, &[(living, incoming())], &moves, &[gone]);
        a.reports("all is sent", |report| report.all_sent).await;
        b.told(5, &[(living, incoming())], &[(M, terms(&a, &b, Some(at), true, true))]);
        until("the marker", || received(of_gone).last().is_some_and(|(_, stale)| *stale)).await;
        until("b scrapes the other", || {
            received(of_living).iter().filter(|(time, _)| *time >= at).count() >= 3
        })
        .await;
        a.stop().await;
        b.stop().await;
        let (ended, mut lives) = (received(of_gone), received(of_living));
        // On a busy machine a request may go twice, as its answer comes too late.
        lives.dedup();
        let (last, before) = ended.split_last().unwrap();
        assert!(last.0 >= next && before.iter().all(|(_, stale)| !stale), "{ended:?}, T {at}, slot {next}");
        assert!(lives.iter().all(|(_, stale)| !stale), "{lives:?}");
        assert!(lives.is_sorted_by(|one, next| one.0 < next.0), "{lives:?}, T {at}");
    }
}
