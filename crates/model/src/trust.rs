//! Which of two runtimes a workload gets: the one for what is trusted, or the one that keeps more distance.
//!
//! The table (`level` is the trust that the configuration gives to the machine's workloads as a whole):
//!
//! | workload  | privileged | level     | an untrusted handler is there | gets      |
//! |-----------|------------|-----------|-------------------------------|-----------|
//! | untrusted | yes        | any       | any                           | trusted, or refused |
//! | untrusted | no         | any       | yes                           | untrusted |
//! | untrusted | no         | any       | no                            | trusted, or refused |
//! | trusted   | any        | trusted   | any                           | trusted   |
//! | trusted   | yes        | untrusted | any                           | trusted   |
//! | trusted   | no         | untrusted | yes                           | untrusted |
//! | trusted   | no         | untrusted | no                            | trusted   |
//!
//! "Or refused": an untrusted workload on the trusted runtime is a downgrade; [`OnDowngrade`] decides.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How far something is trusted. Any other word is an error, not "untrusted".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// As far as the host's own programs.
    #[default]
    Trusted,
    /// Not at all.
    Untrusted,
}

impl FromStr for Trust {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "trusted" => Ok(Self::Trusted),
            "untrusted" => Ok(Self::Untrusted),
            _ => Err(format!("trust {text:?}: it is trusted or untrusted")),
        }
    }
}

/// What becomes of an untrusted workload that the untrusted runtime cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDowngrade {
    /// It gets the trusted runtime, and a warning is logged.
    #[default]
    Warn,
    /// It is refused.
    Refuse,
}

/// What the choice depends on, of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// The trust in workloads that ask for nothing.
    pub level: Trust,
    /// Whether an untrusted handler is configured and usable.
    pub has_untrusted: bool,
    /// Downgrade or refuse.
    pub on_downgrade: OnDowngrade,
}

/// What the choice depends on, of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Workload {
    /// What it is declared to be.
    pub trust: Trust,
    /// Whether it gets the host's powers (all capabilities, all devices).
    pub privileged: bool,
}

/// Why the choice is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// An untrusted workload, and there is a handler for it.
    DeclaredUntrusted,
    /// A trusted workload where workloads are trusted.
    TrustedLevel,
    /// A trusted workload where they are not, and there is a handler for it.
    UntrustedLevel,
    /// A trusted workload that is privileged, which the untrusted handler cannot serve.
    Privileged,
    /// A trusted workload where they are not trusted, and no untrusted handler.
    NoUntrustedHandler,
    /// A downgrade: the untrusted workload is privileged.
    UntrustedButPrivileged,
    /// A downgrade: the workload is untrusted and there is no untrusted handler.
    UntrustedWithoutHandler,
}

impl Why {
    /// Whether an untrusted workload gets less distance than it was declared to need: logged as a warning.
    #[must_use]
    pub fn is_downgrade(self) -> bool {
        matches!(self, Self::UntrustedButPrivileged | Self::UntrustedWithoutHandler)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::DeclaredUntrusted => "the workload is untrusted",
            Self::TrustedLevel => "workloads are trusted here",
            Self::UntrustedLevel => "workloads are not trusted here",
            Self::Privileged => "the workload is privileged",
            Self::NoUntrustedHandler => "no untrusted handler is configured",
            Self::UntrustedButPrivileged => "the workload is untrusted but privileged",
            Self::UntrustedWithoutHandler => {
                "the workload is untrusted but no untrusted handler is configured"
            }
        })
    }
}

/// Which runtime, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The runtime for what is trusted so far.
    pub handler: Trust,
    /// The reason, for logs and for status.
    pub why: Why,
}

/// An untrusted workload would have to be downgraded, and the policy refuses that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("choose runtime: {0}, and the policy refuses the trusted one")]
pub struct Refused(pub Why);

impl Policy {
    /// The runtime for `workload`, by the table above.
    ///
    /// # Errors
    /// [`Refused`] where an untrusted workload would be downgraded and the policy says no.
    pub fn choose(&self, workload: Workload) -> Result<Choice, Refused> {
        let choice = self.table(workload);
        if choice.why.is_downgrade() && self.on_downgrade == OnDowngrade::Refuse {
            return Err(Refused(choice.why));
        }
        Ok(choice)
    }

    fn table(&self, workload: Workload) -> Choice {
        let (handler, why) = match (workload.trust, self.level) {
            (Trust::Untrusted, _) if workload.privileged => (Trust::Trusted, Why::UntrustedButPrivileged),
            (Trust::Untrusted, _) if self.has_untrusted => (Trust::Untrusted, Why::DeclaredUntrusted),
            (Trust::Untrusted, _) => (Trust::Trusted, Why::UntrustedWithoutHandler),
            (Trust::Trusted, Trust::Trusted) => (Trust::Trusted, Why::TrustedLevel),
            (Trust::Trusted, Trust::Untrusted) if workload.privileged => (Trust::Trusted, Why::Privileged),
            (Trust::Trusted, Trust::Untrusted) if self.has_untrusted => {
                (Trust::Untrusted, Why::UntrustedLevel)
            }
            (Trust::Trusted, Trust::Untrusted) => (Trust::Trusted, Why::NoUntrustedHandler),
        };
        Choice { handler, why }
    }
}

#[cfg(test)]
mod tests {
    use super::Trust::{Trusted as T, Untrusted as U};
    use super::*;

    #[test]
    fn trust_table_of_all_combinations() {
        // (workload, privileged, level, untrusted handler) → (handler, why)
        let table = [
            ((T, false, T, false), (T, Why::TrustedLevel)),
            ((T, false, T, true), (T, Why::TrustedLevel)),
            ((T, true, T, false), (T, Why::TrustedLevel)),
            ((T, true, T, true), (T, Why::TrustedLevel)),
            ((T, false, U, false), (T, Why::NoUntrustedHandler)),
            ((T, false, U, true), (U, Why::UntrustedLevel)),
            ((T, true, U, false), (T, Why::Privileged)),
            ((T, true, U, true), (T, Why::Privileged)),
            ((U, false, T, false), (T, Why::UntrustedWithoutHandler)),
            ((U, false, T, true), (U, Why::DeclaredUntrusted)),
            ((U, true, T, false), (T, Why::UntrustedButPrivileged)),
            ((U, true, T, true), (T, Why::UntrustedButPrivileged)),
            ((U, false, U, false), (T, Why::UntrustedWithoutHandler)),
            ((U, false, U, true), (U, Why::DeclaredUntrusted)),
            ((U, true, U, false), (T, Why::UntrustedButPrivileged)),
            ((U, true, U, true), (T, Why::UntrustedButPrivileged)),
        ];
        for ((trust, privileged, level, has_untrusted), (handler, why)) in table {
            let workload = Workload { trust, privileged };
            for on_downgrade in [OnDowngrade::Warn, OnDowngrade::Refuse] {
                let policy = Policy { level, has_untrusted, on_downgrade };
                let expected = if trust == U && handler == T && on_downgrade == OnDowngrade::Refuse {
                    Err(Refused(why))
                } else {
                    Ok(Choice { handler, why })
                };
                assert_eq!(policy.choose(workload), expected, "{workload:?} {policy:?}");
            }
        }
    }

    #[test]
    fn an_unknown_trust_is_an_error() {
        assert_eq!("untrusted".parse(), Ok(U));
        for bad in ["", "Trusted", "yes", "trusted "] {
            assert!(bad.parse::<Trust>().is_err(), "{bad:?}");
        }
        let text = Refused(Why::UntrustedButPrivileged).to_string();
        assert_eq!(
            text,
            "choose runtime: the workload is untrusted but privileged, and the policy refuses the trusted one"
        );
    }
}
