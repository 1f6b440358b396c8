//! The queue against a vector: whatever is done to it in whatever order, with the process killed or the power cut at any
//! write, it gives back what was appended, in order, from no later than what was acknowledged.

use proptest::prelude::*;

use super::super::segment::{self, SEGMENT_HEADER_BYTES};
use super::*;

const LANES: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Append {
        lane: usize,
        len: usize,
    },
    /// Reads some records, and acknowledges them or not.
    Read {
        lane: usize,
        count: usize,
        ack: bool,
    },
    Upkeep,
    Reopen,
    /// The process is killed during the call that changes the disk for the nth time from now.
    Kill {
        after: u64,
    },
    /// The same, and the machine loses what was not synced.
    PowerCut {
        after: u64,
        lose: Vec<u8>,
    },
    /// The newest segment file of a lane loses its last bytes while nobody uses it.
    Truncate {
        lane: usize,
        bytes: usize,
    },
    /// The disk takes nothing, or takes again.
    Fail {
        fails: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..LANES, prop_oneof![0_usize..200, 20_000_usize..70_000]).prop_map(|(lane, len)| Step::Append { lane, len }),
        5 => (0..LANES, 1_usize..6, any::<bool>()).prop_map(|(lane, count, ack)| Step::Read { lane, count, ack }),
        2 => Just(Step::Upkeep),
        1 => Just(Step::Reopen),
        2 => (1_u64..30).prop_map(|after| Step::Kill { after }),
        1 => (1_u64..30, proptest::collection::vec(any::<u8>(), 1..4))
            .prop_map(|(after, lose)| Step::PowerCut { after, lose }),
        1 => (0..LANES, 1_usize..40_000).prop_map(|(lane, bytes)| Step::Truncate { lane, bytes }),
        1 => any::<bool>().prop_map(|fails| Step::Fail { fails }),
    ]
}

/// What a lane must hold.
#[derive(Clone, Debug, Default)]
struct Model {
    /// Bodies, whose first bytes are their number.
    bodies: Vec<Vec<u8>>,
    /// How many are acknowledged.
    acknowledged: usize,
    /// Numbers that may be missing.
    uncertain: Vec<usize>,
}

struct Run {
    world: World,
    queue: Option<Queue>,
    readers: Vec<LaneReader>,
    lanes: Vec<Model>,
    /// How many of a lane's bodies a power cut leaves alone.
    synced: Vec<usize>,
    /// How many of a lane's bodies are acknowledged by what is written down, and so never come again.
    settled: Vec<usize>,
    failing: bool,
}

impl Run {
    fn new() -> Self {
        let mut world = World::new();
        // Small segments; nothing is dropped in a run of this length.
        world.settings.max_bytes = 50 << 20;
        let mut run = Self {
            world,
            queue: None,
            readers: Vec::new(),
            lanes: vec![Model::default(); LANES],
            synced: vec![0; LANES],
            settled: vec![0; LANES],
            failing: false,
        };
        run.open();
        run
    }

    fn open(&mut self) {
        let queue = self.world.open(LANES);
        self.readers = (0..LANES).map(|lane| reader(&queue, lane)).collect();
        self.queue = Some(queue);
    }

    fn close(&mut self) {
        self.readers.clear();
        self.queue = None;
    }

    fn append(&mut self, lane: usize, len: usize, may_be_lost: bool) {
        let model = &mut self.lanes[lane];
        let number = model.bodies.len();
        let mut body = (number as u32).to_le_bytes().to_vec();
        body.resize(4 + len, number as u8);
        model.bodies.push(body.clone());
        if may_be_lost {
            model.uncertain.push(number);
        }
        self.queue.as_ref().unwrap().append(lane, samples(1), &body).unwrap();
    }

    /// Reads on and checks that it is what comes next in the model. Returns the numbers.
    fn read(&mut self, lane: usize, count: usize, ack: bool) -> Vec<usize> {
        let model = &mut self.lanes[lane];
        let reader = &mut self.readers[lane];
        let mut body = Vec::new();
        let mut numbers: Vec<usize> = Vec::new();
        let mut last = 0;
        for at in 0..count {
            let info =
                if at == 0 { reader.peek(&mut body) } else { reader.peek_next_if(&mut body, |_| true) };
            let Some(info) = info else { break };
            assert!(info.sequence > last);
            last = info.sequence;
            let number = u32::from_le_bytes(body[..4].try_into().unwrap()) as usize;
            assert_eq!(body, model.bodies[number], "a body is as it was appended");
            numbers.push(number);
        }
        let mut next = model.acknowledged;
        for number in &numbers {
            assert!(*number >= next, "{number} again, or out of order: {next} is next");
            let missing = (next..*number).find(|missing| !model.uncertain.contains(missing));
            assert_eq!(missing, None, "lane {lane}: lost without a reason");
            next = number + 1;
        }
        if numbers.len() < count {
            let missing = (next..model.bodies.len()).find(|missing| !model.uncertain.contains(missing));
            assert_eq!(missing, None, "lane {lane}: not there though it was appended");
        }
        if ack && !numbers.is_empty() {
            reader.ack(last);
            model.acknowledged = next;
        }
        numbers
    }

    /// After a kill or a power cut the cursor may be older than what was acknowledged last, but never than what was written down
    /// of it: reading begins between the two.
    fn reopen_behind(&mut self) {
        self.open();
        for lane in 0..LANES {
            let mut body = Vec::new();
            let Some(_) = self.readers[lane].peek(&mut body) else { continue };
            let number = u32::from_le_bytes(body[..4].try_into().unwrap()) as usize;
            let settled = self.settled[lane];
            assert!(number >= settled, "lane {lane}: {number} comes again, {settled} were settled");
            self.lanes[lane].acknowledged = self.lanes[lane].acknowledged.min(number);
            // What has outlived this outlives what comes.
            let there = self.read(lane, usize::MAX, false);
            self.lanes[lane].uncertain.retain(|number| !there.contains(number));
        }
    }

    /// `power`: what is not synced may be lost, too.
    fn crash(&mut self, after: u64, power: bool) {
        let from = self.world.disk.calls();
        self.world.disk.set_faults(|faults| {
            faults.writes = None;
            faults.stop_at = Some(from + after);
        });
        // It dies of one of these.
        for round in 0..20 {
            let lane = round % LANES;
            self.append(lane, 30_000, true);
            self.read(lane, 1, true);
            if !power && !self.world.disk.is_gone() {
                self.settled[lane] = self.lanes[lane].acknowledged;
            }
            if round % 5 == 4 {
                self.queue.as_ref().unwrap().directory.upkeep();
                if !self.world.disk.is_gone() {
                    self.settle();
                }
            }
        }
        self.close();
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Append { lane, len } => self.append(*lane, *len, self.failing),
            Step::Read { lane, count, ack } => drop(self.read(*lane, *count, *ack)),
            Step::Upkeep => {
                self.world.advance(2_000);
                self.queue.as_ref().unwrap().directory.upkeep();
                if !self.failing {
                    for (lane, model) in self.lanes.iter().enumerate() {
                        self.synced[lane] = model.bodies.len();
                    }
                }
            }
            Step::Reopen => {
                self.recover();
                self.close();
                self.reopen_behind();
            }
            Step::Kill { after } => {
                self.recover();
                self.crash(*after, false);
                self.world.disk.revive();
                self.reopen_behind();
            }
            Step::PowerCut { after, lose } => {
                self.recover();
                for (lane, model) in self.lanes.iter_mut().enumerate() {
                    model.uncertain.extend(self.synced[lane]..model.bodies.len());
                }
                self.crash(*after, true);
                let mut lose = lose.iter().cycle().copied();
                self.world.disk.cut_power(|| lose.next().unwrap());
                self.reopen_behind();
            }
            Step::Truncate { lane, bytes } => {
                self.recover();
                self.close();
                self.truncate(*lane, *bytes);
                self.reopen_behind();
            }
            Step::Fail { fails } => {
                self.failing = *fails;
                let kind = fails.then_some(std::io::ErrorKind::Other);
                self.world.disk.set_faults(|faults| faults.writes = kind);
            }
        }
    }

    /// The disk works again, and all that is in memory goes there.
    fn recover(&mut self) {
        self.failing = false;
        self.world.disk.set_faults(|faults| faults.writes = None);
        self.world.advance(2_000);
        self.queue.as_ref().unwrap().directory.upkeep();
        for (lane, model) in self.lanes.iter().enumerate() {
            self.synced[lane] = model.bodies.len();
        }
        self.settle();
        assert_eq!(self.queue.as_ref().unwrap().stats().memory_bytes, 0);
    }

    /// Everything that is acknowledged is written down and synced.
    fn settle(&mut self) {
        self.settled = self.lanes.iter().map(|model| model.acknowledged).collect();
    }

    fn truncate(&mut self, lane: usize, bytes: usize) {
        let dir = format!("/data/prod/set-00000001/lane-{lane:03}");
        let segments = self.world.disk.paths().into_iter().filter(|path| path.starts_with(&dir));
        let Some(newest) = segments.filter(|path| path.extension().is_some_and(|end| end == "seg")).max()
        else {
            return;
        };
        let content = self.world.disk.bytes(&newest);
        // Records of which a byte is gone may be missing now.
        let file = self.world.open_file(&newest);
        file.write_all_at(&content, 0).unwrap();
        let (mut offset, mut body) = (SEGMENT_HEADER_BYTES, Vec::new());
        while let Ok(next) = segment::step(&*file, offset, content.len() as u64, 0) {
            match next {
                segment::Step::Record(header) => {
                    segment::read_body(&*file, offset, &header, &mut body).unwrap();
                    offset += header.record_len();
                    if offset as usize > content.len().saturating_sub(bytes) {
                        let number = u32::from_le_bytes(body[..4].try_into().unwrap());
                        self.lanes[lane].uncertain.push(number as usize);
                    }
                }
                segment::Step::Bad { next } | segment::Step::Search { next } => offset = next,
                segment::Step::End => break,
            }
        }
        file.set_len(content.len().saturating_sub(bytes) as u64).unwrap();
    }
}

proptest! {
    // A quarter of what is usual or asked for by PROPTEST_CASES: a case is a hundred calls and more.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_does_what_a_vector_would(steps in proptest::collection::vec(step(), 1..60)) {
        let mut run = Run::new();
        for step in &steps {
            run.apply(step);
        }
        run.recover();
        for lane in 0..LANES {
            run.read(lane, usize::MAX, true);
        }
        let stats = run.queue.as_ref().unwrap().stats();
        prop_assert_eq!(stats.pending, Pending::default());
        prop_assert_eq!(stats.memory_bytes, 0);
    }
}
