//! `/etc/hosts` in place of DNS: Services stand there with their ready endpoints, pods with a subdomain (those of a
//! StatefulSet) under their own names. One directory `/etc` for each namespace, as short names differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};

use super::{Shared, watch_events};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The directory that pods of the namespace have as `/etc`.
pub(super) fn etc(shared: &Shared, namespace: &str) -> PathBuf {
    let dir = shared.dir.join("etc").join(namespace);
    if !dir.exists() {
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("nsswitch.conf"), "hosts: files\npasswd: files\ngroup: files\n").unwrap();
        // A name that stands in several lines leads to all their addresses, as with DNS.
        std::fs::write(dir.join("host.conf"), "multi on\n").unwrap();
        std::fs::write(dir.join("passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        std::fs::write(dir.join("group"), "root:x:0:\n").unwrap();
        std::fs::write(dir.join("hosts"), "127.0.0.1 localhost\n").unwrap();
        // A change of any slice writes the file anew; the one that came before this directory did not.
        shared.mounted.send_modify(|version| *version += 1);
    }
    dir
}

/// Keeps the files as the endpoint slices are.
pub(super) async fn run(shared: Arc<Shared>) {
    let slices: Api<EndpointSlice> = Api::all(shared.client.clone());
    let mut events = std::pin::pin!(watch_events(shared.clone(), slices, watcher::Config::default()));
    let mut known: BTreeMap<(String, String), EndpointSlice> = BTreeMap::new();
    let mut mounted = shared.mounted.subscribe();
    let key = |slice: &EndpointSlice| (slice.namespace().unwrap_or_default(), slice.name_any());
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::Init) => known.clear(),
                Some(Event::InitApply(slice)) => {
                    known.insert(key(&slice), slice);
                    continue;
                }
                Some(Event::InitDone) => {}
                Some(Event::Apply(slice)) => { known.insert(key(&slice), slice); }
                Some(Event::Delete(slice)) => { known.remove(&key(&slice)); }
                None => return,
            },
            _ = mounted.changed() => {}
        }
        write_all(&shared.dir.join("etc"), &known);
    }
}

fn write_all(dir: &Path, slices: &BTreeMap<(String, String), EndpointSlice>) {
    let lines = lines(slices.values());
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let namespace = entry.file_name().to_string_lossy().into_owned();
        let mut text = "127.0.0.1 localhost\n".to_owned();
        for (address, name, of) in &lines {
            let _ = write!(text, "{address} {name}.{of}.svc.cluster.local {name}.{of}.svc {name}.{of}");
            let _ = writeln!(text, "{}", if *of == namespace { format!(" {name}") } else { String::new() });
        }
        let path = entry.path().join("hosts");
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        // Renamed, so that nobody reads half of it.
        let new = entry.path().join("hosts.new");
        let _ = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path));
    }
}

/// Address, name and namespace of everything that has a name.
fn lines<'a>(slices: impl Iterator<Item = &'a EndpointSlice>) -> BTreeSet<(String, String, String)> {
    let mut lines = BTreeSet::new();
    for slice in slices {
        let Some(service) = slice.labels().get(SERVICE_NAME) else { continue };
        let namespace = slice.namespace().unwrap_or_default();
        for endpoint in &slice.endpoints {
            let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false);
            for address in endpoint.addresses.iter().filter(|_| ready) {
                lines.insert((address.clone(), service.clone(), namespace.clone()));
                if let Some(hostname) = &endpoint.hostname {
                    lines.insert((address.clone(), format!("{hostname}.{service}"), namespace.clone()));
                }
            }
        }
    }
    lines
}
