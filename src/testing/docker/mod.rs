//! A cluster for tests from containers (feature `testcontainers`).
//!
//! | file | what it holds |
//! |---|---|
//! | `builder` | the settings of a cluster |
//! | `cluster` | the cluster: its nodes, and which of them is the primary |
//! | `node` | one node: a container's life, and its roles |
//! | `recipe` | the container of a node: image, files, variables |
//! | `engine` | the Docker engine, with a limit on every request |
//! | `image` | the name of an image |
//! | `remains` | the end: nothing is left in the engine |

mod builder;
mod cluster;
mod engine;
mod image;
mod node;
mod recipe;
mod remains;

pub use builder::DockerClusterBuilder;
pub use cluster::DockerCluster;
pub use node::DockerNode;
