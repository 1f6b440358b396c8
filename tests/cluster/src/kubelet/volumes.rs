//! A pod's volumes as directories, and what is in those that the API server fills.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, PersistentVolumeClaim, Secret, ServiceAccount,
    ServiceAccountTokenProjection, Volume,
};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::claims;
use super::environment::field;
use super::pod::Running;

type Files = BTreeMap<String, Vec<u8>>;

/// A pod's volumes.
#[derive(Debug)]
pub(super) struct Volumes {
    dir: PathBuf,
    /// Who may write into them: fsGroup.
    pub(super) group: Option<i64>,
    paths: Mutex<HashMap<String, PathBuf>>,
    /// Tokens are asked for once: tests are shorter than they last.
    tokens: Mutex<HashMap<String, Vec<u8>>>,
    /// Names that files of a volume are published under.
    versions: Mutex<u64>,
    filled: Vec<String>,
}

impl Volumes {
    /// None is filled yet.
    pub(super) fn new(pod: &Running) -> Self {
        let filled = |volume: &&Volume| {
            volume.config_map.is_some()
                || volume.secret.is_some()
                || volume.projected.is_some()
                || volume.downward_api.is_some()
        };
        let names = pod.spec.volumes.iter().flatten().filter(filled).map(|volume| volume.name.clone());
        Self {
            dir: pod.shared.dir.join("pods").join(pod.pod.uid().unwrap_or_default()),
            group: None,
            paths: Mutex::default(),
            tokens: Mutex::default(),
            versions: Mutex::new(0),
            filled: names.collect(),
        }
    }

    /// The pod's directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a volume is.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.paths.lock().unwrap().get(name).cloned()
    }

    /// Whether only the kubelet writes into it.
    pub(super) fn is_read_only(&self, name: &str) -> bool {
        self.filled.iter().any(|filled| filled == name)
    }

    /// Deletes what goes with the pod; claims stay.
    pub(super) fn remove(&self) {
        let _ = fs::remove_dir_all(&self.dir);
    }

    /// Makes all volumes as their sources are now.
    ///
    /// # Errors
    /// Where a source is not there, or not known to this kubelet.
    pub(super) async fn fill(&self, pod: &Running) -> Result<(), String> {
        for volume in pod.spec.volumes.iter().flatten() {
            let own = self.dir.join("volumes").join(&volume.name);
            let path = if volume.empty_dir.is_some() {
                self.make(&own)?;
                own
            } else if let Some(source) = &volume.persistent_volume_claim {
                let path = claimed(pod, &source.claim_name).await?;
                self.make(&path)?;
                path
            } else if let Some(source) = &volume.host_path {
                PathBuf::from(&source.path)
            } else {
                let files =
                    self.files(pod, volume).await.map_err(|error| format!("{}: {error}", volume.name))?;
                self.publish(&own, &files).map_err(|error| format!("{}: {error}", own.display()))?;
                own
            };
            self.paths.lock().unwrap().insert(volume.name.clone(), path);
        }
        Ok(())
    }

    /// A directory that the containers may write into.
    fn make(&self, path: &Path) -> Result<(), String> {
        let made = || -> std::io::Result<()> {
            fs::create_dir_all(path)?;
            let mode = match self.group {
                Some(group) => {
                    chown(path, None, u32::try_from(group).ok())?;
                    0o2775
                }
                None => 0o777,
            };
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        };
        made().map_err(|error| format!("{}: {error}", path.display()))
    }

    async fn files(&self, pod: &Running, volume: &Volume) -> Result<Files, String> {
        if let Some(source) = &volume.config_map {
            return config_map(pod, &source.name, source.items.as_deref(), source.optional).await;
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            return secret(pod, name, source.items.as_deref(), source.optional).await;
        }
        if let Some(source) = &volume.downward_api {
            return downward(pod, source.items.as_deref());
        }
        let Some(projected) = &volume.projected else {
            return Err("this kind of volume is not supported by this kubelet".to_owned());
        };
        let mut files = Files::new();
        for source in projected.sources.iter().flatten() {
            if let Some(source) = &source.config_map {
                files.extend(config_map(pod, &source.name, source.items.as_deref(), source.optional).await?);
            }
            if let Some(source) = &source.secret {
                files.extend(secret(pod, &source.name, source.items.as_deref(), source.optional).await?);
            }
            if let Some(source) = &source.downward_api {
                files.extend(downward(pod, source.items.as_deref())?);
            }
            if let Some(source) = &source.service_account_token {
                let token = self.token(pod, &volume.name, source).await?;
                files.insert(source.path.clone(), token);
            }
        }
        Ok(files)
    }

    async fn token(
        &self,
        pod: &Running,
        volume: &str,
        source: &ServiceAccountTokenProjection,
    ) -> Result<Vec<u8>, String> {
        let key = format!("{volume}/{}", source.path);
        if let Some(token) = self.tokens.lock().unwrap().get(&key) {
            return Ok(token.clone());
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(pod.shared.client.clone(), &pod.namespace);
        let request = json!({
            "spec": {
                "audiences": source.audience.iter().collect::<Vec<_>>(),
                "expirationSeconds": source.expiration_seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.pod.uid()},
            },
        });
        let request: TokenRequest = serde_json::from_value(request).map_err(|error| error.to_string())?;
        let account = pod.spec.service_account_name.as_deref().unwrap_or("default");
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
        let status =
            answer.map_err(|error| error.to_string())?.status.ok_or("a TokenRequest without a status")?;
        let token = status.token.into_bytes();
        self.tokens.lock().unwrap().insert(key, token.clone());
        Ok(token)
    }

    /// Writes files as a kubelet does: into a new directory that `..data` then points to, so that all change at once.
    fn publish(&self, dir: &Path, files: &Files) -> std::io::Result<()> {
        let data = dir.join("..data");
        let same =
            |(name, content): (&String, &Vec<u8>)| fs::read(data.join(name)).is_ok_and(|old| old == *content);
        let count = fs::read_dir(&data).map_or(usize::MAX, Iterator::count);
        if count == files.len() && files.iter().all(same) {
            return Ok(());
        }
        let version = {
            let mut versions = self.versions.lock().unwrap();
            *versions += 1;
            format!("..version-{versions}")
        };
        let new = dir.join(&version);
        fs::create_dir_all(&new)?;
        for (name, content) in files {
            let path = new.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&new))?;
            fs::write(&path, content)?;
        }
        let old = fs::read_link(&data).ok();
        let swap = dir.join("..data_tmp");
        symlink(&version, &swap)?;
        fs::rename(&swap, &data)?;
        let top = |name: &String| name.split('/').next().unwrap_or(name).to_owned();
        let names: Vec<String> = files.keys().map(top).collect();
        for name in &names {
            if !dir.join(name).is_symlink() {
                symlink(Path::new("..data").join(name), dir.join(name))?;
            }
        }
        for entry in fs::read_dir(dir)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with("..") && !names.contains(&name) {
                fs::remove_file(entry.path())?;
            }
        }
        if let Some(old) = old {
            fs::remove_dir_all(dir.join(old))?;
        }
        Ok(())
    }
}

async fn claimed(pod: &Running, name: &str) -> Result<PathBuf, String> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(pod.shared.client.clone(), &pod.namespace);
    let claim = claims.get(name).await.map_err(|error| error.to_string())?;
    Ok(claims::directory(&pod.shared, &claim))
}

async fn config_map(
    pod: &Running,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
) -> Result<Files, String> {
    let maps: Api<ConfigMap> = Api::namespaced(pod.shared.client.clone(), &pod.namespace);
    let map = maps.get_opt(name).await.map_err(|error| error.to_string())?;
    let files = map.map(|map| {
        let texts = map.data.unwrap_or_default().into_iter().map(|(name, text)| (name, text.into_bytes()));
        let binary = map.binary_data.unwrap_or_default().into_iter().map(|(name, bytes)| (name, bytes.0));
        texts.chain(binary).collect()
    });
    chosen(files, name, items, optional)
}

async fn secret(
    pod: &Running,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
) -> Result<Files, String> {
    let secrets: Api<Secret> = Api::namespaced(pod.shared.client.clone(), &pod.namespace);
    let secret = secrets.get_opt(name).await.map_err(|error| error.to_string())?;
    let files = secret.map(|secret| {
        secret.data.unwrap_or_default().into_iter().map(|(name, bytes)| (name, bytes.0)).collect()
    });
    chosen(files, name, items, optional)
}

/// The wanted ones of an object's files, under their wanted names.
fn chosen(
    files: Option<Files>,
    object: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
) -> Result<Files, String> {
    let optional = optional == Some(true);
    let mut files = match files {
        Some(files) => files,
        None if optional => Files::new(),
        None => return Err(format!("{object} is not there")),
    };
    let Some(items) = items else { return Ok(files) };
    let mut wanted = Files::new();
    for item in items {
        match files.remove(&item.key) {
            Some(content) => {
                wanted.insert(item.path.clone(), content);
            }
            None if optional => {}
            None => return Err(format!("{object} has no {}", item.key)),
        }
    }
    Ok(wanted)
}

fn downward(pod: &Running, items: Option<&[DownwardAPIVolumeFile]>) -> Result<Files, String> {
    let mut files = Files::new();
    for item in items.into_iter().flatten() {
        let path = item.field_ref.as_ref().map(|field| field.field_path.as_str()).unwrap_or_default();
        let value = field(&pod.pod, path, None).ok_or_else(|| format!("unknown field {path:?}"))?;
        files.insert(item.path.clone(), value.into_bytes());
    }
    Ok(files)
}
