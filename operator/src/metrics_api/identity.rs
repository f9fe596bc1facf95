//! Who asks (apiserver `pkg/authentication/user/user.go`).

use std::collections::BTreeMap;

/// Every caller whose identity is known is a member.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Every caller without an identity is a member.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of a caller without an identity.
pub const ANONYMOUS: &str = "system:anonymous";
/// Members may do everything; the API server's own calls carry it.
pub const MASTERS: &str = "system:masters";

/// A caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The user name.
    pub name: String,
    /// The user's unique id, where the authenticator gives one.
    pub uid: Option<String>,
    /// The groups.
    pub groups: Vec<String>,
    /// Further attributes, passed on to authorisation.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// A caller that presented nothing.
    pub fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// Adds [`AUTHENTICATED`] as `pkg/authentication/group/authenticated_group_adder.go` does: not to an anonymous caller
    /// that a front proxy passes on.
    ///
    /// Needed: the API server's legacy discovery call comes through the front proxy without any group.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        let is_settled = |group: &String| group == AUTHENTICATED || group == UNAUTHENTICATED;
        if self.name != ANONYMOUS && !self.groups.iter().any(is_settled) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }

    /// Whether the caller's identity is known.
    pub fn is_authenticated(&self) -> bool {
        self.is_member(AUTHENTICATED)
    }

    /// Whether the caller is in a group.
    pub fn is_member(&self, group: &str) -> bool {
        self.groups.iter().any(|member| member == group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_callers_become_authenticated_once() {
        for (name, groups, expected) in [
            ("system:aggregator", &[][..], &[AUTHENTICATED][..]),
            ("jane", &["dev"], &["dev", AUTHENTICATED]),
            ("jane", &[AUTHENTICATED], &[AUTHENTICATED]),
            (ANONYMOUS, &[UNAUTHENTICATED], &[UNAUTHENTICATED]),
            (ANONYMOUS, &[], &[]),
            ("jane", &[UNAUTHENTICATED], &[UNAUTHENTICATED]),
        ] {
            let groups = groups.iter().copied().map(str::to_owned).collect();
            let identity = Identity {
                name: name.to_owned(),
                groups,
                ..Identity::default()
            }
            .authenticated();
            assert_eq!(identity.groups, expected, "{name}");
        }
        assert!(!Identity::anonymous().authenticated().is_authenticated());
    }
}
