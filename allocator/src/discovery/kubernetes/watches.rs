//! All watches, so that each is there once: jobs whose client settings, namespaces and selectors agree share it.

use std::any::{Any, TypeId};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use promring_model::config::{KubernetesAccess, KubernetesDiscovery, KubernetesRole};
use tokio::task::AbortHandle;

use super::client::own_namespace;
use super::kind::Kind;
use super::store::Store;
use super::watch::{Scope, Timing, Watcher};

/// A running watch. It stops when nobody has it any more.
#[derive(Debug)]
pub(crate) struct Watch<K: Kind> {
    pub(crate) store: Arc<Store<K::Stored>>,
    task: AbortHandle,
}

impl<K: Kind> Drop for Watch<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The watches that somebody has. Clones are the same registry.
#[derive(Clone, Debug, Default)]
pub struct Watches {
    known: Arc<Mutex<Vec<Known>>>,
    timing: Timing,
}

#[derive(Debug)]
struct Known {
    kind: TypeId,
    access: Arc<KubernetesAccess>,
    scope: Scope,
    watch: Weak<dyn Any + Send + Sync>,
}

impl Watches {
    /// A registry whose watches wait for these times.
    #[cfg(test)]
    pub(crate) fn with_timing(timing: Timing) -> Self {
        Self { known: Arc::default(), timing }
    }

    /// The watch over this kind, which is started if there is none. Must be called within a runtime.
    pub(crate) fn get<K: Kind>(&self, access: &KubernetesAccess, scope: Scope) -> Arc<Watch<K>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.watch.strong_count() > 0);
        let kind = TypeId::of::<K>();
        let same =
            known.iter().find(|known| known.kind == kind && known.scope == scope && *known.access == *access);
        if let Some(watch) = same.and_then(|known| known.watch.upgrade()?.downcast().ok()) {
            return watch;
        }
        let shared =
            known.iter().find(|known| *known.access == *access).map(|known| Arc::clone(&known.access));
        let access = shared.unwrap_or_else(|| Arc::new(access.clone()));
        let store = Arc::new(Store::new());
        let watcher = Watcher::<K>::new(Arc::clone(&access), scope.clone(), Arc::clone(&store), self.timing);
        let watch = Arc::new(Watch::<K> { store, task: tokio::spawn(watcher.run()).abort_handle() });
        let any: Arc<dyn Any + Send + Sync> = Arc::<Watch<K>>::clone(&watch);
        known.push(Known { kind, access, scope, watch: Arc::downgrade(&any) });
        watch
    }

    /// How many watches there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let known = self.known.lock().unwrap();
        known.iter().filter(|known| known.watch.strong_count() > 0).count()
    }
}

/// The selectors of a role; without a role, everything.
pub(crate) fn scope(discovery: &KubernetesDiscovery, role: Option<KubernetesRole>) -> Scope {
    let selector = discovery.selectors.iter().find(|selector| Some(selector.role) == role);
    Scope {
        namespace: None,
        label: selector.map(|selector| selector.label.clone()).unwrap_or_default(),
        field: selector.map(|selector| selector.field.clone()).unwrap_or_default(),
    }
}

/// The namespaces to look into, one watch each; `[None]` for all.
///
/// # Errors
/// Where the pod's own is asked for and cannot be found out.
pub(crate) fn namespaces(discovery: &KubernetesDiscovery) -> Result<Vec<Option<String>>, String> {
    let mut names = discovery.namespaces.clone();
    if discovery.own_namespace {
        names.push(own_namespace()?);
    }
    names.sort();
    names.dedup();
    Ok(if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() })
}
