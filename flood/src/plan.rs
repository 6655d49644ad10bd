//! The flood that the settings ask for, with every default filled in.

use std::time::Duration;

use anyhow::{bail, ensure};
use serde::Serialize;

use crate::{
    args::{ArrivalArgs, FloodArgs},
    arrivals::{Arrivals, Shape},
    hall::HallPlan,
    open_files,
    own_server::ServerPlan,
    pay::{PayArgs, PayHabits},
    wants::{Ask, Habits},
};

/// Everything that decides what a flood does.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub seed: u64,
    pub model: Model,
    pub habits: Habits,
    pub hall: HallPlan,
    pub connections: usize,
    pub pollers: usize,
    #[serde(rename = "patience_s", serialize_with = "seconds")]
    pub patience: Duration,
    /// Of the server that the flood starts.
    pub server: Option<ServerPlan>,
}

/// Who decides when the next request begins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// The clock.
    Open(Arrivals),
    /// The end of the buyer's last request.
    Closed(Closed),
}

/// So many buyers, until so many requests were begun or so long has passed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Closed {
    pub buyers: u32,
    pub requests: u64,
    pub duration_s: Option<f64>,
}

/// More requests than this are not kept in memory.
const REQUESTS_MAX: u64 = 10_000_000;

/// Enough for 3,000 submissions a second of which each waits a third of a second.
const POLLERS_DEFAULT: usize = 1000;

const HOLD_SECONDS_DEFAULT: u32 = 600;
const HOLD_SECONDS_QUICK: u32 = 20;

impl Plan {
    pub fn new(args: &FloodArgs) -> anyhow::Result<Plan> {
        let habits = &args.habits;
        ensure!(
            habits.confirm + habits.cancel <= 1.0,
            "--confirm and --cancel are more than all holds"
        );
        let model = model(&args.arrivals, args.quick)?;
        let closed = matches!(model, Model::Closed(_));
        ensure!(
            !(closed && habits.ask == Ask::Later),
            "with --buyers, each asks at once: they begin again when they know the outcome"
        );
        let own_server = args.server.target.is_none();
        let paid = !args.pay.free && (own_server || args.pay.gateway_url.is_some());
        let pay = paid.then(|| pay(&args.pay)).transpose()?;
        let requests = model.requests();
        let queue_limit = u32::try_from(requests.max(100_000))?;
        let mut plan = Plan {
            seed: args.arrivals.seed,
            model,
            habits: Habits {
                mix: habits.mix,
                fallback: habits.fallback,
                heat: habits.heat,
                stingy: habits.stingy,
                returning: habits.returning,
                replay: habits.replay,
                ask: habits.ask,
                leave: habits.leave,
                confirm: habits.confirm,
                cancel: habits.cancel,
                pay,
            },
            hall: HallPlan {
                seats: args.hall.seats,
                sections: args.hall.sections,
                floor: args.hall.floor,
                buyer_limit: args.hall.buyer_limit,
                hold_seconds: args.hall.hold_seconds.unwrap_or(if args.quick {
                    HOLD_SECONDS_QUICK
                } else {
                    HOLD_SECONDS_DEFAULT
                }),
                queue_limit: args.hall.queue_limit.unwrap_or(queue_limit),
            },
            connections: args.client.connections as usize,
            pollers: args
                .client
                .pollers
                .map_or(POLLERS_DEFAULT, |pollers| pollers as usize),
            patience: Duration::from_secs_f64(args.client.patience),
            server: own_server.then(|| ServerPlan::new(&args.server)),
        };
        if args.client.pollers.is_none() {
            let others = plan.all_connections() - plan.pollers + open_files::RESERVE;
            let spare = open_files::limit().saturating_sub(others as u64);
            plan.pollers = plan
                .pollers
                .min(usize::try_from(spare).unwrap_or(usize::MAX));
        }
        Ok(plan)
    }

    /// Connections for leaving and cancelling, as many again for plain polls, and as many for the
    /// gateway.
    pub fn act_connections(&self) -> usize {
        (self.connections / 4).max(4)
    }

    /// Connections in all.
    pub fn all_connections(&self) -> usize {
        2 * self.connections + 3 * self.act_connections() + self.pollers
    }
}

impl Model {
    /// The most requests that there can be.
    pub fn requests(&self) -> u64 {
        match self {
            Model::Open(arrivals) => arrivals.requests,
            Model::Closed(closed) => closed.requests,
        }
    }
}

fn pay(args: &PayArgs) -> anyhow::Result<PayHabits> {
    let pay = PayHabits {
        declines: args.pay_declines,
        hangs: args.pay_hangs,
        abandons: args.pay_abandons,
        odd: args.pay_odd,
    };
    ensure!(
        pay.declines + pay.hangs + pay.abandons + pay.odd <= 1.0,
        "--pay-declines, --pay-hangs, --pay-abandons and --pay-odd are more than all payments"
    );
    Ok(pay)
}

fn model(args: &ArrivalArgs, quick: bool) -> anyhow::Result<Model> {
    let requests_default = if quick { 10_000 } else { 100_000 };
    if let Some(buyers) = args.buyers {
        if args.rate.is_some() {
            bail!("--rate is for arrivals; with --buyers, the server's answers set the pace");
        }
        let unbounded = if args.duration.is_some() {
            REQUESTS_MAX
        } else {
            requests_default
        };
        let requests = args.requests.unwrap_or(unbounded);
        return Ok(Model::Closed(Closed {
            buyers,
            requests,
            duration_s: args.duration,
        }));
    }
    let shape = args
        .arrivals
        .unwrap_or(if quick { Shape::Poisson } else { Shape::Burst });
    let rate = args.rate.unwrap_or(if quick { 1500.0 } else { 3000.0 });
    let requests = match args.duration {
        Some(duration) => (duration * rate).round() as u64,
        None => args.requests.unwrap_or(requests_default),
    };
    ensure!(
        (1..=REQUESTS_MAX).contains(&requests),
        "between 1 and {REQUESTS_MAX} requests are possible"
    );
    Ok(Model::Open(Arrivals {
        shape,
        rate,
        requests,
    }))
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn plan(line: &str) -> anyhow::Result<Plan> {
        let command = FloodArgs::augment_args(clap::Command::new("flood"));
        let matches = command.try_get_matches_from(line.split(' '))?;
        Plan::new(&FloodArgs::from_arg_matches(&matches)?)
    }

    fn open(line: &str) -> Arrivals {
        match plan(line).unwrap().model {
            Model::Open(arrivals) => arrivals,
            closed => panic!("{closed:?}"),
        }
    }

    #[test]
    fn a_duration_and_a_rate_say_how_many_requests() {
        let arrivals = open("flood --arrivals constant --rate 250 --duration 4");
        assert_eq!(
            arrivals,
            Arrivals {
                shape: Shape::Constant,
                rate: 250.0,
                requests: 1000
            }
        );
    }

    #[test]
    fn quick_is_short_and_what_is_said_explicitly_still_counts() {
        assert_eq!(open("flood --quick").requests, 10_000);
        assert_eq!(open("flood --quick --requests 7").requests, 7);
        assert_eq!(open("flood --quick --arrivals burst").shape, Shape::Burst);
    }

    #[test]
    fn buyers_make_a_closed_model() {
        let closed = Closed {
            buyers: 50,
            requests: 100_000,
            duration_s: None,
        };
        assert_eq!(
            plan("flood --buyers 50").unwrap().model,
            Model::Closed(closed)
        );
    }

    #[test]
    fn buyers_pay_where_there_is_a_gateway() {
        let pays = |line: &str| plan(line).unwrap().habits.pay.is_some();
        let target = "flood --target http://127.0.0.1:1 --operator-key k --buyer-secret s";
        assert!(pays("flood"));
        assert!(!pays("flood --free"));
        assert!(!pays(target));
        assert!(pays(&format!("{target} --gateway-url http://127.0.0.1:2")));
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for line in [
            "flood --requests 5 --duration 5",
            "flood --buyers 5 --arrivals burst",
            "flood --buyers 5 --rate 5",
            "flood --confirm 0.8 --cancel 0.3",
            "flood --leave 1.1",
            "flood --pay-declines 0.8 --pay-hangs 0.3",
            "flood --buyers 5 --ask later",
            "flood --rate 0",
            "flood --target http://127.0.0.1:8080",
        ] {
            assert!(plan(line).is_err(), "{line}");
        }
    }
}
