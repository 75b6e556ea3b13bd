//! Response flags: in two letters, what became of a call, as access logs tell it.

use std::fmt;

macro_rules! flags {
    ($($name:ident $short:literal $long:literal)*) => {
        /// One thing that happened to a call.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Flag { $($name,)* }

        impl Flag {
            const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The flag that access logs write so.
            pub(crate) fn parse(short: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|flag| flag.short() == short)
            }

            fn short(self) -> &'static str {
                match self { $(Self::$name => $short,)* }
            }

            fn long(self) -> &'static str {
                match self { $(Self::$name => $long,)* }
            }
        }
    };
}

flags! {
    FailedLocalHealthCheck "LH" "FailedLocalHealthCheck"
    NoHealthyUpstream "UH" "NoHealthyUpstream"
    UpstreamRequestTimeout "UT" "UpstreamRequestTimeout"
    LocalReset "LR" "LocalReset"
    UpstreamRemoteReset "UR" "UpstreamRemoteReset"
    UpstreamConnectionFailure "UF" "UpstreamConnectionFailure"
    UpstreamConnectionTermination "UC" "UpstreamConnectionTermination"
    UpstreamOverflow "UO" "UpstreamOverflow"
    NoRouteFound "NR" "NoRouteFound"
    DelayInjected "DI" "DelayInjected"
    FaultInjected "FI" "FaultInjected"
    RateLimited "RL" "RateLimited"
    UnauthorizedExternalService "UAEX" "UnauthorizedExternalService"
    RateLimitServiceError "RLSE" "RateLimitServiceError"
    DownstreamConnectionTermination "DC" "DownstreamConnectionTermination"
    UpstreamRetryLimitExceeded "URX" "UpstreamRetryLimitExceeded"
    StreamIdleTimeout "SI" "StreamIdleTimeout"
    InvalidEnvoyRequestHeaders "IH" "InvalidEnvoyRequestHeaders"
    DownstreamProtocolError "DPE" "DownstreamProtocolError"
    UpstreamMaxStreamDurationReached "UMSDR" "UpstreamMaxStreamDurationReached"
    NoClusterFound "NC" "NoClusterFound"
    OverloadManager "OM" "OverloadManagerTerminated"
    UpstreamProtocolError "UPE" "UpstreamProtocolError"
    DownstreamRemoteReset "DR" "DownstreamRemoteReset"
    DurationTimeout "DT" "DurationTimeout"
}

/// The flags of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u32);

impl Flags {
    pub(crate) fn insert(&mut self, flag: Flag) {
        self.0 |= 1 << flag as u32;
    }

    pub(crate) fn contains(self, flag: Flag) -> bool {
        self.0 & (1 << flag as u32) != 0
    }

    pub(crate) fn intersects(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// As `%RESPONSE_FLAGS_LONG%` writes them.
    pub(crate) fn long(self) -> String {
        self.join(Flag::long)
    }

    fn join(self, name: fn(Flag) -> &'static str) -> String {
        let set: Vec<_> =
            Flag::ALL.iter().filter(|&&flag| self.contains(flag)).map(|&flag| name(flag)).collect();
        if set.is_empty() { "-".to_owned() } else { set.join(",") }
    }
}

impl FromIterator<Flag> for Flags {
    fn from_iter<I: IntoIterator<Item = Flag>>(flags: I) -> Self {
        let mut all = Self::default();
        flags.into_iter().for_each(|flag| all.insert(flag));
        all
    }
}

/// As `%RESPONSE_FLAGS%` writes them.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.join(Flag::short))
    }
}
