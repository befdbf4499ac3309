//! All handlers and containers of one state root.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::trust::{Policy, Trust, Workload};
use model::{Id, Name, State};

use crate::blocking;
use crate::config::RuntimeConfig;
use crate::container::{Container, Mark};
use crate::dir::Root;
use crate::handler::{Handler, HandlerReport};
use crate::{Error, Result};

/// How long a look at containers waits for an exit that happened but is not recorded yet.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Handlers by name, and the containers of one state root. Clones are the same.
#[derive(Clone)]
pub struct Runtimes {
    inner: Arc<Inner>,
    _last: Arc<Last>,
}

/// Lets go of the containers when the last [`Runtimes`] goes: each of them holds the rest.
struct Last(Arc<Inner>);

impl Drop for Last {
    fn drop(&mut self) {
        let containers = std::mem::take(&mut *self.0.known());
        drop(containers);
    }
}

/// What clones and containers share.
pub(crate) struct Inner {
    pub(crate) root: Root,
    pub(crate) config: RuntimeConfig,
    handlers: BTreeMap<String, Result<Arc<Handler>, String>>,
    /// The containers that this process has seen. Only short map operations are done under the lock.
    containers: Mutex<HashMap<Id, Container>>,
}

impl std::fmt::Debug for Runtimes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtimes").field("root", &self.inner.root.path()).finish_non_exhaustive()
    }
}

impl Runtimes {
    /// Checks the configuration and opens the state root. A handler that can't be used is kept with the
    /// reason; only the default one must work.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a configuration that contradicts itself or a broken default handler;
    /// [`Error::Sys`] when the state root can't be made.
    pub fn from_config(config: &RuntimeConfig) -> Result<Self> {
        let invalid = |object: &str, cause: String| Error::Invalid {
            op: "configure",
            object: format!("handler {object:?}"),
            cause,
        };
        let mut handlers = BTreeMap::new();
        for handler in &config.handlers {
            let checked = Handler::check(handler, config).map(Arc::new);
            if handlers.insert(handler.name.clone(), checked).is_some() {
                return Err(invalid(&handler.name, "is there twice".to_owned()));
            }
        }
        match handlers.get(&config.default_handler) {
            None => {
                return Err(invalid(&config.default_handler, "the default, is not configured".to_owned()));
            }
            Some(Err(reason)) => {
                return Err(invalid(&config.default_handler, format!("the default: {reason}")));
            }
            Some(Ok(_)) => {}
        }
        if let Some(name) = config.trust.untrusted_handler.as_ref().filter(|n| !handlers.contains_key(*n)) {
            return Err(invalid(name, "for untrusted workloads, is not configured".to_owned()));
        }
        let root = Root::open(&config.root)?;
        let inner = Inner { root, config: config.clone(), handlers, containers: Mutex::default() };
        let inner = Arc::new(inner);
        Ok(Self { _last: Arc::new(Last(inner.clone())), inner })
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// All handlers by name, usable or not.
    #[must_use]
    pub fn handlers(&self) -> Vec<HandlerReport> {
        let of = |(name, handler): (&String, &Result<Arc<Handler>, String>)| HandlerReport {
            name: name.clone(),
            default: *name == self.inner.config.default_handler,
            handler: handler.clone(),
        };
        self.inner.handlers.iter().map(of).collect()
    }

    /// The handler called `name`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, [`Error::Unsupported`] with the reason when it is disabled.
    pub fn handler(&self, name: &str) -> Result<Arc<Handler>> {
        self.inner.handler(name)
    }

    /// The default handler.
    ///
    /// # Errors
    /// As [`Self::handler`].
    pub fn default_handler(&self) -> Result<Arc<Handler>> {
        self.handler(&self.inner.config.default_handler)
    }

    /// The handler for a workload: the one that it asks for by name, else by the table of [`model::trust`].
    ///
    /// # Errors
    /// As [`Self::handler`]; [`Error::Unsupported`] when the policy refuses a downgrade.
    pub fn handler_for(
        &self,
        trust: Trust,
        privileged: bool,
        requested: Option<&str>,
    ) -> Result<Arc<Handler>> {
        if let Some(name) = requested.filter(|name| !name.is_empty()) {
            return self.handler(name);
        }
        let config = &self.inner.config.trust;
        let usable = config.untrusted_handler.as_deref().and_then(|name| self.handler(name).ok());
        let policy = Policy {
            level: config.level,
            has_untrusted: usable.is_some(),
            on_downgrade: config.on_downgrade,
        };
        let choice = policy
            .choose(Workload { trust, privileged })
            .map_err(|refused| Error::unsupported("use handler", "for an untrusted workload", refused))?;
        if choice.why.is_downgrade() {
            tracing::warn!(why = %choice.why, "untrusted workload gets the trusted runtime");
        }
        match (choice.handler, usable) {
            (Trust::Untrusted, Some(handler)) => Ok(handler),
            _ => self.default_handler(),
        }
    }

    /// The containers, ordered by id; those that are still being made are not among them.
    ///
    /// # Errors
    /// [`Error::Sys`] when the state root can't be read.
    pub async fn list(&self) -> Result<Vec<Container>> {
        let inner = self.inner.clone();
        let listed = blocking::quick(move || {
            let mut containers = Vec::new();
            for id in inner.root.ids()? {
                match inner.load(&id, "list") {
                    Ok(container) => containers.push(container),
                    Err(Error::NotFound { .. }) => {}
                    // One unreadable record must not hide the others; recovery tells of it too.
                    Err(error) => tracing::warn!(container = %id, %error, "can't read container"),
                }
            }
            Ok(containers)
        });
        let containers = listed.await?;
        settled(&containers).await?;
        Ok(containers)
    }

    /// The container with exactly this id.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] when its record can't be read.
    pub async fn get(&self, id: &Id) -> Result<Container> {
        let (inner, id) = (self.inner.clone(), id.clone());
        let container = blocking::quick(move || inner.load(&id, "find")).await?;
        settled(std::slice::from_ref(&container)).await?;
        Ok(container)
    }

    /// The one container that `text` means: its id, its name, or the beginning of its id.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] when it is the beginning of several ids, or no id or name.
    pub async fn find(&self, text: &str) -> Result<Container> {
        let (inner, text) = (self.inner.clone(), text.to_owned());
        let container = blocking::quick(move || inner.find(&text)).await?;
        settled(std::slice::from_ref(&container)).await?;
        Ok(container)
    }
}

/// Begins the containers' watches, and gives those that have ended a moment until that is recorded.
async fn settled(containers: &[Container]) -> Result<()> {
    // One that is watched already is told by its watch.
    let all: Vec<_> =
        containers.iter().filter(|container| !container.shared().is_watched()).cloned().collect();
    let dead = blocking::quick(move || {
        let is_dead = |container: &Container| {
            let record = container.record();
            let gone = || Ok::<_, Error>(record.hold_init()?.map_or(Ok(true), |init| init.is_dead())?);
            // One that can't be asked just now is left to its watch.
            record.state.is_alive() && gone().unwrap_or(false)
        };
        Ok(all.into_iter().filter(is_dead).collect::<Vec<_>>())
    })
    .await?;
    for container in containers {
        container.watch();
    }
    for container in dead {
        // A monitor that does not get on leaves it as it was known.
        let _ = tokio::time::timeout(SETTLE_TIMEOUT, container.wait()).await;
    }
    Ok(())
}

impl Inner {
    pub(crate) fn handler(&self, name: &str) -> Result<Arc<Handler>> {
        match self.handlers.get(name) {
            None => Err(Error::not_found("use handler", name)),
            Some(Err(reason)) => Err(Error::unsupported("use handler", name, reason)),
            Some(Ok(handler)) => Ok(handler.clone()),
        }
    }

    /// The container `id`: the one that is known already, else from disk.
    pub(crate) fn load(self: &Arc<Self>, id: &Id, op: &'static str) -> Result<Container> {
        let known = self.known().get(id).cloned();
        let dir = self.root.dir(id);
        if let Some(container) = known {
            if container.is_there() {
                return Ok(container);
            }
            self.forget_this(&container);
        }
        let mark = Mark::of(&dir).unwrap_or_default();
        let record = dir.load(op)?;
        if record.state == State::Creating {
            return Err(Error::not_found(op, id));
        }
        let container = Container::new(self.clone(), dir, record, mark);
        Ok(self.known().entry(id.clone()).or_insert(container).clone())
    }

    fn find(self: &Arc<Self>, text: &str) -> Result<Container> {
        const OP: &str = "find";
        let name = Name::new(text).map_err(|error| Error::invalid(OP, "container", error))?;
        if let Ok(id) = Id::new(text) {
            match self.load(&id, OP) {
                Err(Error::NotFound { .. }) => {}
                result => return result,
            }
        }
        if let Some(id) = self.root.named(&name)? {
            match self.load(&id, OP) {
                Err(Error::NotFound { .. }) => {}
                Ok(container) if container.name().as_ref() != Some(&name) => {}
                result => return result,
            }
        }
        let ids = self.root.ids()?;
        let mut begin = ids.iter().filter(|id| id.as_str().starts_with(text));
        match (begin.next(), begin.next()) {
            (None, _) => Err(Error::not_found(OP, text)),
            (Some(id), None) => self.load(id, OP),
            (Some(one), Some(two)) => {
                Err(Error::invalid(OP, text, format!("begins several ids: {one}, {two}")))
            }
        }
    }

    /// Forgets a container that is gone, unless another has its id by now.
    pub(crate) fn forget_this(&self, container: &Container) {
        let mut known = self.known();
        if known.get(container.id()).is_some_and(|other| Arc::ptr_eq(other.shared(), container.shared())) {
            known.remove(container.id());
        }
        drop(known);
        container.mark_deleted();
    }

    pub(crate) fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Id, Container>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
