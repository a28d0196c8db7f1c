//! What the answers of stores have in common: the node that served, and a token.

/// The setters of an answer with the fields `node`, `role` and `token`.
macro_rules! served_by {
    ($answer:ident $(<$parameter:ident>)?) => {
        impl $(<$parameter>)? $answer $(<$parameter>)? {
            /// Sets the node that served it; for implementors of stores. Without it, the node is a primary named `local`.
            #[must_use]
            pub fn served_by(mut self, node: impl Into<std::sync::Arc<str>>, role: $crate::Role) -> Self {
                (self.node, self.role) = (node.into(), role);
                self
            }

            /// Adds the token for reads that contain what this one has seen.
            #[must_use]
            pub fn with_token(mut self, token: $crate::Token) -> Self {
                self.token = token;
                self
            }
        }
    };
}

pub(crate) use served_by;
