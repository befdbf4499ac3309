//! Taking turns, and the numbers that come of it.

use std::time::Instant;

use anyhow::Result;

/// Milliseconds by phase; the phases of one contestant are always the same.
pub(crate) type Phases = Vec<(&'static str, f64)>;

/// Somebody who is measured.
pub(crate) struct Contestant<'a> {
    /// Its name in the table; those of ours begin with `ours`.
    pub(crate) name: String,
    /// Runs once.
    pub(crate) run: Box<dyn FnMut() -> Result<Phases> + 'a>,
}

/// What came of a contestant.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) rounds: Vec<Phases>,
    /// Why there is nothing, if there is nothing.
    pub(crate) failure: Option<String>,
}

impl<'a> Contestant<'a> {
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut() -> Result<Phases> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }

    /// One that can't be set up, with the reason.
    pub(crate) fn of(name: &str, made: Result<impl FnMut() -> Result<Phases> + 'a>) -> Self {
        match made {
            Ok(run) => Self::new(name, run),
            Err(error) => {
                let reason = format!("{error:#}");
                Self::new(name, move || anyhow::bail!("{reason}"))
            }
        }
    }
}

/// Lets the contestants run in turn, one round to warm up and then so many. Who fails is out.
pub(crate) fn in_turn(rounds: usize, contestants: Vec<Contestant<'_>>) -> Vec<Series> {
    let mut contestants = contestants;
    let mut series: Vec<Series> = contestants
        .iter()
        .map(|contestant| Series { name: contestant.name.clone(), rounds: Vec::new(), failure: None })
        .collect();
    for round in 0..=rounds {
        for (contestant, series) in contestants.iter_mut().zip(&mut series) {
            if series.failure.is_some() {
                continue;
            }
            match (contestant.run)() {
                Ok(phases) if round > 0 => series.rounds.push(phases),
                Ok(_) => {}
                Err(error) => series.failure = Some(format!("{error:#}")),
            }
        }
    }
    series
}

impl Series {
    /// The sorted times of one phase, or of all together.
    fn sorted(&self, phase: Option<&str>) -> Vec<f64> {
        let pick = |phases: &Phases| -> f64 {
            phases
                .iter()
                .filter(|(name, _)| phase.is_none_or(|wanted| wanted == *name))
                .map(|(_, ms)| ms)
                .sum()
        };
        let mut times: Vec<f64> = self.rounds.iter().map(pick).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    /// The median of one phase, or of the sum.
    pub(crate) fn median(&self, phase: Option<&str>) -> f64 {
        quantile(&self.sorted(phase), 0.5)
    }

    /// The 90th percentile of the sum.
    pub(crate) fn p90(&self) -> f64 {
        quantile(&self.sorted(None), 0.9)
    }
}

/// The value at a fraction of sorted values; NaN if there is none.
pub(crate) fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    #[expect(clippy::cast_precision_loss, reason = "an index of a few dozen values")]
    let position = fraction * last as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and last")]
    let low = position.floor() as usize;
    let high = (low + 1).min(last);
    (sorted[high] - sorted[low]).mul_add(position.fract(), sorted[low])
}

/// Milliseconds since a moment.
pub(crate) fn since(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        assert!((quantile(&[1.0, 2.0, 3.0, 10.0], 0.5) - 2.5).abs() < 1e-9);
        assert!((quantile(&[7.0], 0.9) - 7.0).abs() < 1e-9);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn who_fails_is_out_and_the_others_go_on() {
        let mut calls = 0;
        let series = in_turn(
            3,
            vec![
                Contestant::new("a", || Ok(vec![("x", 1.0), ("y", 2.0)])),
                Contestant::new("b", || {
                    calls += 1;
                    anyhow::bail!("no")
                }),
            ],
        );
        assert_eq!((series[0].rounds.len(), series[1].rounds.len()), (3, 0));
        assert!(
            (series[0].median(None) - 3.0).abs() < 1e-9 && (series[0].median(Some("y")) - 2.0).abs() < 1e-9
        );
        assert_eq!((series[1].failure.as_deref(), calls), (Some("no"), 1));
    }
}
