//! Resolves a name to addresses.

use std::{future::Future, io, net::SocketAddr, pin::Pin};

/// Resolves a name to addresses; see [`RouterBuilder::resolver`](crate::RouterBuilder::resolver).
///
/// ```
/// use std::{future::Future, io, net::SocketAddr, pin::Pin};
///
/// use mainstem::HostResolver;
///
/// /// A name service of one's own, whose answers also have ports.
/// struct Registry;
///
/// impl HostResolver for Registry {
///     fn resolve(&self, host: &str, port: u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
///         let service = host.to_owned();
///         Box::pin(async move {
///             match service.as_str() {
///                 "replicas.shop" => Ok(vec![([10, 0, 0, 2], port).into(), ([10, 0, 0, 3], port).into()]),
///                 _ => Err(io::ErrorKind::NotFound.into()),
///             }
///         })
///     }
/// }
///
/// let builder = mainstem::Router::builder()
///     .primary("postgres://app:secret@10.0.0.1/shop")
///     .replicas_by_name("postgres://app:secret@replicas.shop/shop")
///     .resolver(Registry);
/// ```
pub trait HostResolver: Send + Sync + 'static {
    /// Returns the addresses of this host, with the port to connect to: `port`, unless the resolver knows better.
    ///
    /// The call is cancelled after the [connect timeout](crate::RouterBuilder::connect_timeout).
    ///
    /// # Errors
    ///
    /// Any failure. The last answer is then kept, as after an empty one.
    fn resolve(&self, host: &str, port: u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
}

/// The operating system's resolver.
pub(super) struct SystemResolver;

impl HostResolver for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
        let host = host.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((host.as_str(), port)).await?.collect()) })
    }
}
