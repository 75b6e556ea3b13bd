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

/// The flags of one call, in the order in which they were set: most calls have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(Vec<Flag>);

impl Flags {
    pub(crate) fn insert(&mut self, flag: Flag) {
        if !self.contains(flag) {
            self.0.push(flag);
        }
    }

    pub(crate) fn contains(&self, flag: Flag) -> bool {
        self.0.contains(&flag)
    }

    pub(crate) fn intersects(&self, others: &Self) -> bool {
        self.0.iter().any(|&flag| others.contains(flag))
    }

    /// As `%RESPONSE_FLAGS_LONG%` writes them.
    pub(crate) fn long(&self) -> String {
        self.join(Flag::long)
    }

    fn join(&self, name: fn(Flag) -> &'static str) -> String {
        if self.0.is_empty() {
            return "-".to_owned();
        }
        self.0.iter().map(|&flag| name(flag)).collect::<Vec<_>>().join(",")
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
