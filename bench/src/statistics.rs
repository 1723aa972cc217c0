//! Medians and their spread.

use serde_json::{Value, json};

/// What many rounds say of one quantity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Half of the rounds have less.
    pub median: f64,
    /// A quarter of the rounds has less.
    pub lower: f64,
    /// A quarter of the rounds has more.
    pub upper: f64,
    /// The standard error of the median, as if rounds spread normally, from the quartiles, which outliers don't touch.
    pub error: f64,
}

impl Sample {
    /// Of the rounds as they are.
    pub fn of(rounds: &[f64]) -> Self {
        let [lower, median, upper] = quantiles(rounds, [0.25, 0.5, 0.75]);
        let count = f64::from(u32::try_from(rounds.len()).unwrap_or(u32::MAX)).max(1.0);
        // Between its quartiles a normal spread has 1.349 standard deviations, and a median errs by 1.2533 of them over √n.
        let error = 1.2533 * (upper - lower) / 1.349 / count.sqrt();
        Self { median, lower, upper, error }
    }

    /// Of the differences, round by round.
    pub fn above(rounds: &[f64], base: &[f64]) -> Self {
        let differences: Vec<f64> = rounds.iter().zip(base).map(|(a, b)| a - b).collect();
        Self::of(&differences)
    }

    /// How many times another's, and the standard error of that.
    pub fn ratio(&self, to: &Self) -> (f64, f64) {
        let ratio = self.median / to.median;
        let relative = (self.error / self.median).hypot(to.error / to.median);
        (ratio, (ratio * relative).abs())
    }

    /// The median and its quartiles, for people.
    pub fn shown(&self, decimals: usize) -> String {
        format!("{:.decimals$} ({:.decimals$}–{:.decimals$})", self.median, self.lower, self.upper)
    }

    /// All of it, for programs.
    pub fn json(&self) -> Value {
        json!({
            "median": self.median, "lowerQuartile": self.lower, "upperQuartile": self.upper, "standardError": self.error,
        })
    }
}

/// The values below which those shares lie.
pub fn quantiles<const N: usize>(values: &[f64], shares: [f64; N]) -> [f64; N] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    shares.map(|share| quantile(&sorted, share))
}

/// The value below which that share lies, between the two nearest.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = u32::try_from(sorted.len().saturating_sub(1)).unwrap_or(u32::MAX);
    let place = share * f64::from(last);
    let below = place.floor();
    // A place in a list: small, and not negative.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the list's length")]
    let index = below as usize;
    let at = |index: usize| sorted.get(index).copied();
    let low = at(index).unwrap_or(f64::NAN);
    low + (at(index + 1).unwrap_or(low) - low) * (place - below)
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn quartiles_lie_between_the_nearest_values() {
        let sample = Sample::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!([sample.lower, sample.median, sample.upper], [1.75, 2.5, 3.25]);
        assert!((sample.error - 0.6968).abs() < 0.001, "{sample:?}");
        assert_eq!(Sample::of(&[7.0]), Sample { median: 7.0, lower: 7.0, upper: 7.0, error: 0.0 });
        assert!(Sample::of(&[]).median.is_nan());
    }

    #[test]
    fn a_difference_is_taken_in_each_round() {
        // The machine was slow in the second round, for both.
        assert_eq!(Sample::above(&[3.0, 13.0, 3.0], &[1.0, 11.0, 1.0]).median, 2.0);
    }

    #[test]
    fn a_ratio_errs_by_both_of_its_sides() {
        let side = |median, error| Sample { median, lower: median, upper: median, error };
        let (ratio, error) = side(4.0, 0.3).ratio(&side(8.0, 0.8));
        assert_eq!(ratio, 0.5);
        assert!((error - 0.0625).abs() < 1e-9, "{error}");
    }
}
