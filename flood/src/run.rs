//! One flood: creates the show and lets the crowd in. What then is checked is `audit`'s.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use serde_json::json;
use tokio::{
    sync::{Mutex, Semaphore},
    task::JoinSet,
};
use uuid::Uuid;

use crate::{
    arrivals::Arrivals,
    buyers::Crowd,
    calls::{Calls, Minter, bearer, operator_call, refusal_code},
    client::{Answer, Pool, Target},
    figures::{Counters, Record},
    hall::{self, Hall},
    line::Line,
    plan::{Closed, Model, Plan},
    progress,
    wants::Ask,
};

/// How many submissions may be under way for each connection. It bounds the memory of a burst; who
/// waits to begin is counted as waiting all the same.
const SUBMISSIONS_PER_CONNECTION: usize = 4;

/// Where a flood goes.
pub struct Destination {
    pub url: String,
    pub operator_key: String,
    pub buyer_secret: String,
    /// For the checker.
    pub database_url: Option<String>,
    /// Where buyers pay, if they do.
    pub gateway: Option<GatewayAccess>,
}

/// The simulated gateway that the server uses.
#[derive(Debug, Clone)]
pub struct GatewayAccess {
    pub url: String,
    /// For its ledger.
    pub key: Option<String>,
}

/// A flood whose last buyer has ended.
pub struct Flooded {
    pub crowd: Arc<Crowd>,
    pub show_id: Uuid,
    /// On the server's clock.
    pub began_at: DateTime<Utc>,
    pub records: Vec<Record>,
}

/// Runs the flood until the last buyer has ended.
pub async fn flood(plan: Plan, destination: &Destination) -> anyhow::Result<Flooded> {
    let target = Target::parse(&destination.url)?;
    let hall = Hall::new(&plan.hall)?;
    let gateway = match &destination.gateway {
        Some(gateway) if plan.habits.pay.is_some() => Some(Target::parse(&gateway.url)?),
        _ => None,
    };
    let show_id = create_show(&plan, &hall, &target, &destination.operator_key).await?;
    let crowd = Arc::new(Crowd {
        hall,
        calls: Calls::new(show_id),
        minter: Minter::new(&destination.buyer_secret, Utc::now()),
        name: format!("flood-{}", show_id.simple()),
        submits: Pool::new(target.clone(), plan.connections),
        acts: Pool::new(target.clone(), plan.act_connections()),
        asks: Pool::new(target.clone(), plan.act_connections()),
        pays: Pool::new(target.clone(), plan.connections),
        gateway: gateway.map(|target| Pool::new(target, plan.act_connections())),
        watch: Pool::new(target.clone(), 1),
        pollers: Pool::new(target, plan.pollers),
        line: Line::default(),
        silence: Semaphore::new(0),
        counters: Counters::default(),
        complaints: std::sync::Mutex::default(),
        began: Instant::now(),
        plan,
    });
    if crowd.plan.habits.ask == Ask::AtOnce {
        crowd.silence.close();
    }
    let began_at = server_time(&crowd).await?;
    let records = let_in(&crowd).await?;
    Ok(Flooded {
        crowd,
        show_id,
        began_at,
        records,
    })
}

/// Creates the flood's own show and opens its sale.
async fn create_show(
    plan: &Plan,
    hall: &Hall,
    target: &Target,
    operator_key: &str,
) -> anyhow::Result<Uuid> {
    let pool = Pool::new(target.clone(), 1);
    let who = bearer(operator_key)?;
    let paid = plan.habits.pay.is_some();
    let creation = operator_call(&who, "/v1/operator/shows", &hall.creation(&plan.hall, paid));
    let answer = pool.call(&creation).await.context("creating the show")?;
    let show = hall::created(&expect_success("creating the show", answer)?.body)?;
    let path = format!("/v1/operator/shows/{}/sale", show.id);
    let opening = operator_call(&who, &path, &json!({ "command": "open", "reason": null }));
    let answer = pool.call(&opening).await.context("opening the sale")?;
    expect_success("opening the sale", answer)?;
    Ok(show.id)
}

fn expect_success(doing: &str, answer: Answer) -> anyhow::Result<Answer> {
    if !answer.is_success() {
        let code = refusal_code(answer.status, &answer.body);
        bail!(
            "{doing}: {} {code}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
    }
    Ok(answer)
}

/// When the flood began, on the server's clock.
async fn server_time(crowd: &Crowd) -> anyhow::Result<DateTime<Utc>> {
    #[derive(serde::Deserialize)]
    struct Clock {
        server_time: DateTime<Utc>,
    }
    let answer = crowd
        .acts
        .call(&crowd.calls.queue())
        .await
        .context("reading the queue")?;
    let answer = expect_success("reading the queue", answer)?;
    let clock: Clock = serde_json::from_slice(&answer.body).context("reading the queue")?;
    Ok(clock.server_time - crowd.began.elapsed())
}

/// Lets everybody in, with the line watched and the progress shown, until the last has ended.
async fn let_in(crowd: &Arc<Crowd>) -> anyhow::Result<Vec<Record>> {
    let watch = crowd.line.watch(&crowd.calls, &crowd.watch);
    let show = progress::show(&crowd.counters, &crowd.line, crowd.plan.model.requests());
    let live = async {
        match crowd.plan.model {
            Model::Open(arrivals) => let_in_by_the_clock(crowd, arrivals).await,
            Model::Closed(closed) => let_in_a_circle(crowd, closed).await,
        }
    };
    tokio::select! {
        records = live => records,
        () = watch => bail!("the line is watched as long as there are buyers"),
        () = show => bail!("the progress is shown as long as there are buyers"),
    }
}

async fn let_in_by_the_clock(
    crowd: &Arc<Crowd>,
    arrivals: Arrivals,
) -> anyhow::Result<Vec<Record>> {
    let places = crowd.plan.connections * SUBMISSIONS_PER_CONNECTION;
    let room = Arc::new(Semaphore::new(places));
    let mut records = Vec::with_capacity(arrivals.requests as usize);
    let mut lives = JoinSet::new();
    // The first arrival is now, however long the set-up took.
    let offset = crowd.began.elapsed();
    for (index, start) in (0..).zip(arrivals.starts(crowd.plan.seed)) {
        let intended = offset + start;
        if intended > crowd.began.elapsed() {
            tokio::time::sleep_until((crowd.began + intended).into()).await;
        }
        let submitted = room.clone().acquire_owned().await?;
        let crowd = crowd.clone();
        lives.spawn(async move { crowd.live(index, intended, submitted).await });
        while let Some(record) = lives.try_join_next() {
            records.push(record??);
        }
    }
    // All places are free when all submissions are through.
    let _all = room.acquire_many(u32::try_from(places)?).await?;
    crowd.silence.close();
    while let Some(record) = lives.join_next().await {
        records.push(record??);
    }
    Ok(records)
}

async fn let_in_a_circle(crowd: &Arc<Crowd>, closed: Closed) -> anyhow::Result<Vec<Record>> {
    let next = Arc::new(AtomicU64::new(0));
    let records = Arc::new(Mutex::new(Vec::new()));
    let ends = closed
        .duration_s
        .map(|seconds| crowd.began.elapsed() + Duration::from_secs_f64(seconds));
    let mut buyers = JoinSet::new();
    for _ in 0..closed.buyers {
        let (crowd, next, records) = (crowd.clone(), next.clone(), records.clone());
        buyers.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let now = crowd.began.elapsed();
                if index >= closed.requests || ends.is_some_and(|ends| now >= ends) {
                    return anyhow::Ok(());
                }
                let record = crowd.live(index, now, ()).await?;
                records.lock().await.push(record);
            }
        });
    }
    while let Some(buyer) = buyers.join_next().await {
        buyer??;
    }
    Ok(std::mem::take(&mut *records.lock().await))
}
