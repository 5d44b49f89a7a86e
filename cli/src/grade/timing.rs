//! The time limit of a problem.
//!
//! Invariant: a measured limit is never less than the time of the slowest good submission, times
//! the package's factor.

use std::time::Duration;

/// Where the time limit comes from.
///
/// `margin` is the factor by which a submission must exceed the limit to count as surely too slow.
#[derive(Clone, Debug, PartialEq)]
pub enum TimeRule {
    Given {
        limit: Duration,
        margin: f64,
    },
    /// The time of the slowest good submission times `factor`, rounded up to a multiple of
    /// `resolution`.
    Measured {
        factor: f64,
        resolution: Duration,
        margin: f64,
    },
}

impl TimeRule {
    /// The limit, from the time of the slowest submission that must pass. `None` if it is measured
    /// and there is no such submission.
    pub fn limit(&self, slowest: Option<Duration>) -> Option<Duration> {
        match *self {
            Self::Given { limit, .. } => Some(limit),
            Self::Measured { factor, resolution, .. } => {
                let steps = slowest?.as_secs_f64() * factor / resolution.as_secs_f64();
                Some(resolution.mul_f64(steps.ceil().max(1.0)))
            }
        }
    }

    pub fn margin(&self) -> f64 {
        match self {
            Self::Given { margin, .. } | Self::Measured { margin, .. } => *margin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_limit_is_the_next_multiple_of_the_resolution() {
        let (resolution, margin) = (Duration::from_secs(1), 1.5);
        let rule = TimeRule::Measured { factor: 2.0, resolution, margin };
        let limit = |millis| rule.limit(Some(Duration::from_millis(millis))).unwrap();
        assert_eq!([0, 1, 500, 501, 1500].map(limit).map(|limit| limit.as_secs()), [1, 1, 1, 2, 3]);
        assert_eq!(rule.limit(None), None);
        assert_eq!(TimeRule::Given { limit: resolution, margin }.limit(None), Some(resolution));
    }
}
