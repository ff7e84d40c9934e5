//! Who may do what at the admin listener.

/// What the holder of a token may do at the admin listener; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Nothing: a client.
    Client,
    /// Look.
    Viewer,
    /// Run the node.
    Operator,
    /// Change what decides.
    PolicyAdmin,
}

impl Role {
    /// As the claim names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::PolicyAdmin => "policy-admin",
        }
    }

    /// The role that a claim names; `admin` is the highest. What is unknown may nothing.
    pub(crate) fn claimed(role: Option<&str>) -> Self {
        match role {
            Some("viewer") => Self::Viewer,
            Some("operator") => Self::Operator,
            Some("policy-admin" | "admin") => Self::PolicyAdmin,
            _ => Self::Client,
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
