//! Volume claims: a storage class whose volumes are directories, which stay until the cluster goes.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{Shared, watch_events};

/// Name of the class, which is the default one.
const CLASS: &str = "directory";

/// Makes the storage class.
pub(super) async fn create_class(shared: &Shared) {
    let classes: Api<StorageClass> = Api::all(shared.client.clone());
    let class = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "promring.test/directory",
        "reclaimPolicy": "Retain",
    });
    let apply = PatchParams::apply("kubelet").force();
    classes.patch(CLASS, &apply, &Patch::Apply(&class)).await.expect("the storage class is made");
}

/// Gives every pending claim a volume; kube-controller-manager binds the two.
pub(super) async fn run(shared: Arc<Shared>) {
    let claims: Api<PersistentVolumeClaim> = Api::all(shared.client.clone());
    let mut events = std::pin::pin!(watch_events(shared.clone(), claims, watcher::Config::default()));
    while let Some(event) = events.next().await {
        let (Event::Apply(claim) | Event::InitApply(claim)) = event else { continue };
        let spec = claim.spec.clone().unwrap_or_default();
        if spec.storage_class_name.as_deref() == Some(CLASS) && spec.volume_name.is_none() {
            provision(&shared, &claim).await;
        }
    }
}

/// Where a claim's files are. A claim that is deleted and made again is another one.
pub(super) fn directory(shared: &Shared, claim: &PersistentVolumeClaim) -> PathBuf {
    shared.dir.join("claims").join(claim.uid().unwrap_or_default())
}

async fn provision(shared: &Shared, claim: &PersistentVolumeClaim) {
    let namespace = claim.namespace().unwrap_or_default();
    let path = directory(shared, claim);
    std::fs::create_dir_all(&path).unwrap();
    let spec = claim.spec.clone().unwrap_or_default();
    let name = format!("pvc-{}", claim.uid().unwrap_or_default());
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": spec.resources.and_then(|resources| resources.requests),
            "accessModes": spec.access_modes,
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": CLASS,
            "hostPath": {"path": path},
            "claimRef": {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": namespace,
                "name": claim.name_any(), "uid": claim.uid()},
        },
    });
    let volumes: Api<PersistentVolume> = Api::all(shared.client.clone());
    let apply = PatchParams::apply("kubelet").force();
    if let Err(error) = volumes.patch(&name, &apply, &Patch::Apply(&volume)).await {
        shared.log(format_args!("volume {name}: {error}"));
    }
}
