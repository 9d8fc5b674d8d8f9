//! What repeated runs say of a figure: its mean, and how far that may be off.

/// Two-sided 95 % quantiles of Student's distribution, by degrees of freedom from 1 on.
const T_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
const T_95_MANY: f64 = 1.96;

/// A figure over one or more runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub mean: f64,
    pub runs: usize,
    /// Of the figures of the runs, not of their mean; zero for one run.
    variance: f64,
}

impl Estimate {
    /// None of no figures.
    pub fn of(figures: &[f64]) -> Option<Self> {
        let count = figures.len() as f64;
        let mean = figures.iter().sum::<f64>() / count;
        let squares: f64 = figures.iter().map(|figure| (figure - mean).powi(2)).sum();
        let variance = if figures.len() > 1 { squares / (count - 1.0) } else { 0.0 };
        (!figures.is_empty()).then_some(Self { mean, runs: figures.len(), variance })
    }

    /// Half of the interval that holds the true mean in 95 of 100 cases; none for one run, which says nothing of it, nor for two,
    /// of which it is twelve times as wide as they differ.
    pub fn margin(&self) -> Option<f64> {
        let freedom = self.runs.checked_sub(1).filter(|freedom| *freedom > 1)?;
        Some(t_95(freedom as f64) * self.error().sqrt())
    }

    /// The variance of the mean.
    fn error(&self) -> f64 {
        self.variance / self.runs as f64
    }

    /// Whether this is above `factor` times the other by more than `by`, beyond what chance explains (Welch's test, 95 %). With one
    /// run on a side there is no telling chance apart, and the figures alone decide.
    pub fn is_above(&self, by: f64, factor: f64, other: &Self) -> bool {
        let difference = self.mean - factor * other.mean - by;
        if self.runs < 2 || other.runs < 2 {
            return difference > 0.0;
        }
        let errors = (self.error(), factor * factor * other.error());
        let error = errors.0 + errors.1;
        if error == 0.0 {
            return difference > 0.0;
        }
        let parts = errors.0.powi(2) / (self.runs - 1) as f64 + errors.1.powi(2) / (other.runs - 1) as f64;
        difference > t_95(error.powi(2) / parts) * error.sqrt()
    }
}

/// For fewer degrees of freedom than there are, rather than more.
fn t_95(freedom: f64) -> f64 {
    let place = (freedom.floor().max(1.0) as usize) - 1;
    T_95.get(place).copied().unwrap_or(T_95_MANY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_has_a_margin_that_repeated_runs_narrow() {
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[4.0]).unwrap().margin(), None);
        assert_eq!(Estimate::of(&[9.0, 11.0]).unwrap().margin(), None);
        // 4.303 × √(1 / 3)
        assert!((Estimate::of(&[9.0, 10.0, 11.0]).unwrap().margin().unwrap() - 2.484).abs() < 1e-3);
        // 3.182 × √(4/3 / 4)
        assert!((Estimate::of(&[9.0, 11.0, 9.0, 11.0]).unwrap().margin().unwrap() - 1.837).abs() < 1e-3);
    }

    #[test]
    fn more_is_what_chance_does_not_explain() {
        let check = |ours: &[f64], factor: f64, others: &[f64], is_more: bool| {
            let (ours, others) = (Estimate::of(ours).unwrap(), Estimate::of(others).unwrap());
            assert_eq!(ours.is_above(0.0, factor, &others), is_more, "{ours:?} {factor} {others:?}");
        };
        check(&[121.0], 1.2, &[100.0], true);
        check(&[119.0], 1.2, &[100.0], false);
        check(&[130.0, 131.0, 129.0], 1.2, &[100.0, 101.0, 99.0], true);
        // The same means, and runs that differ far more among each other.
        check(&[130.0, 180.0, 80.0], 1.2, &[100.0, 150.0, 50.0], false);
        check(&[2.0, 2.0], 1.0, &[1.0, 1.0], true);
        check(&[1.0, 1.0], 1.0, &[1.0, 1.0], false);
        let (three, one) = (Estimate::of(&[3.0, 3.0]).unwrap(), Estimate::of(&[1.0, 1.0]).unwrap());
        assert!(three.is_above(1.9, 1.0, &one) && !three.is_above(2.1, 1.0, &one));
    }
}
