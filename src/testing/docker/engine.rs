//! The Docker engine: the harness's requests to it, each with a limit.

use std::{
    fmt,
    future::Future,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use testcontainers_modules::testcontainers::{
    ContainerRequest, GenericImage, TestcontainersError,
    bollard::{
        Docker,
        errors::Error as DockerError,
        models::NetworkCreateRequest,
        query_parameters::{
            KillContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
            RemoveContainerOptionsBuilder,
        },
    },
    core::client::docker_client_instance,
    runners::AsyncRunner,
};

use crate::{Error, ErrorKind, Result};

use super::image::Image;

/// For the answer to a small request. A busy engine takes seconds to remove a container.
const LIMIT: Duration = Duration::from_secs(60);
/// For the first answer: if nothing listens, it is refused at once.
const FIND_LIMIT: Duration = Duration::from_secs(10);
/// For fetching an image over a slow line.
const PULL_LIMIT: Duration = Duration::from_secs(10 * 60);
const POLL: Duration = Duration::from_millis(20);
/// The label of everything that belongs to a cluster, with the cluster's id.
pub(super) const LABEL: &str = "mainstem.cluster";

#[derive(Clone)]
pub(super) struct Engine(Docker);

/// The state of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Runs,
    Frozen,
    Ended { status: i64 },
    Missing,
}

impl Engine {
    /// The engine that `DOCKER_HOST` names, or that listens in the usual place.
    pub(super) async fn find() -> Result<Self> {
        let nobody = || {
            Error::new(
                ErrorKind::Unavailable,
                "no Docker engine answers: start one, or let DOCKER_HOST name one that runs",
            )
        };
        let docker = docker_client_instance().await.map_err(|error| nobody().with_source(error))?;
        match tokio::time::timeout(FIND_LIMIT, docker.ping()).await {
            Ok(Ok(_)) => Ok(Self(docker)),
            Ok(Err(error)) => Err(nobody().with_source(error)),
            Err(_) => Err(nobody()),
        }
    }

    /// Makes sure that the image is present: fetches it if it is not.
    pub(super) async fn have_image(&self, image: &Image) -> Result<()> {
        let name = image.to_string();
        match within("the look for the image", self.0.inspect_image(&name)).await? {
            Ok(_) => return Ok(()),
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(refused("to look for an image", error)),
        }
        let missing = |why: &str| {
            Error::configuration(format!(
                "the image {name} is not on this machine, and {why}; name another one in MAINSTEM_POSTGRES_IMAGE"
            ))
        };
        let pull = GenericImage::new(&image.name, &image.tag).pull_image();
        match tokio::time::timeout(PULL_LIMIT, pull).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(missing("cannot be fetched").with_source(error)),
            Err(_) => Err(missing(&format!("was not fetched within {PULL_LIMIT:?}"))),
        }
    }

    pub(super) async fn create_network(&self, name: &str, cluster: &str) -> Result<()> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            labels: Some([(LABEL.to_owned(), cluster.to_owned())].into()),
            ..NetworkCreateRequest::default()
        };
        let created = within("the making of a network", self.0.create_network(request)).await?;
        created.map(drop).map_err(|error| refused("to make a network", error))
    }

    /// Creates a container and starts it; returns the host on which its ports are reached. If the future is dropped or
    /// returns an error, the container may remain.
    pub(super) async fn run(&self, request: ContainerRequest<GenericImage>) -> Result<String> {
        let run = async {
            let container = request.start().await?;
            let host = container.get_host().await?.to_string();
            // Dropping this would remove the container. `Remains` does that, for the whole cluster, and even without a
            // runtime.
            std::mem::forget(container);
            Ok::<_, TestcontainersError>(host)
        };
        let ran = within("the start of a container", run).await?;
        ran.map_err(|error| {
            Error::new(ErrorKind::Unavailable, "the Docker engine starts no container").with_source(error)
        })
    }

    pub(super) async fn start(&self, container: &str) -> Result<()> {
        let started = within("the start of a container", self.0.start_container(container, None)).await?;
        started.map_err(|error| refused("to start a container", error))
    }

    /// Sends a signal to the container's first process.
    pub(super) async fn signal(&self, container: &str, signal: &str) -> Result<()> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        match within("a signal", self.0.kill_container(container, Some(options))).await? {
            // It does not run: there is no process that could receive a signal.
            Ok(()) | Err(DockerError::DockerResponseServerError { status_code: 409, .. }) => Ok(()),
            Err(error) => Err(refused("to send a signal", error)),
        }
    }

    pub(super) async fn pause(&self, container: &str) -> Result<()> {
        let paused = within("the freeze of a container", self.0.pause_container(container)).await?;
        paused.map_err(|error| refused("to freeze a container", error))
    }

    pub(super) async fn unpause(&self, container: &str) -> Result<()> {
        let resumed = within("the thaw of a container", self.0.unpause_container(container)).await?;
        resumed.map_err(|error| refused("to thaw a container", error))
    }

    pub(super) async fn state(&self, container: &str) -> Result<State> {
        let seen = match within("the look at a container", self.0.inspect_container(container, None)).await? {
            Ok(seen) => seen.state.unwrap_or_default(),
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => return Ok(State::Missing),
            Err(error) => return Err(refused("to look at a container", error)),
        };
        Ok(match (seen.running, seen.paused) {
            (Some(true), Some(true)) => State::Frozen,
            (Some(true), _) => State::Runs,
            _ => State::Ended { status: seen.exit_code.unwrap_or(-1) },
        })
    }

    /// Waits until it no longer runs.
    pub(super) async fn wait_for_end(&self, container: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while matches!(self.state(container).await?, State::Runs | State::Frozen) {
            if start.elapsed() > limit {
                let message = format!("the server still runs after {limit:?}");
                return Err(Error::new(ErrorKind::Timeout, message));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Everything that it has written to stdout and stderr.
    pub(super) async fn log(&self, container: &str) -> Result<String> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let read = async {
            let (mut text, mut lines) = (String::new(), self.0.logs(container, Some(options)));
            while let Some(line) = lines.next().await {
                text.push_str(&String::from_utf8_lossy(&line?.into_bytes()));
            }
            Ok(text)
        };
        within("the log of a container", read).await?.map_err(|error: DockerError| refused("to read a log", error))
    }

    /// Kills it if it runs, and removes it with its data. Does nothing if it does not exist.
    pub(super) async fn remove(&self, container: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match within("the removal of a container", self.0.remove_container(container, Some(options))).await? {
            Ok(()) | Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(refused("to remove a container", error)),
        }
    }

    /// The containers of a cluster, in whatever state.
    pub(super) async fn containers(&self, cluster: &str) -> Result<Vec<String>> {
        let label = [("label".to_owned(), vec![format!("{LABEL}={cluster}")])].into();
        let options = ListContainersOptionsBuilder::new().all(true).filters(&label).build();
        let listed = within("a list of containers", self.0.list_containers(Some(options))).await?;
        let listed = listed.map_err(|error| refused("to list containers", error))?;
        Ok(listed.into_iter().filter_map(|container| container.id).collect())
    }

    pub(super) async fn remove_network(&self, name: &str) -> Result<()> {
        match within("the removal of a network", self.0.remove_network(name)).await? {
            Ok(()) | Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(refused("to remove a network", error)),
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

async fn within<T>(what: &str, answer: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(LIMIT, answer).await.map_err(|_| {
        Error::new(ErrorKind::Timeout, format!("the Docker engine did not answer within {LIMIT:?}: {what}"))
    })
}

fn refused(what: &str, error: DockerError) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the Docker engine refused {what}")).with_source(error)
}
