//! What a caller asks a pool for.

#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseRequest {
    /// How many containers the caller wants at once.
    pub(super) containers: usize,
    /// The memory of each container, in bytes.
    pub(super) memory: u64,
    /// Whether the request waits even if the queue is full or no container can be built now.
    pub(super) is_patient: bool,
}

impl LeaseRequest {
    pub(super) fn one(memory: u64) -> Self {
        Self { containers: 1, memory, is_patient: false }
    }

    pub(super) fn pair(memory: u64) -> Self {
        Self { containers: 2, ..Self::one(memory) }
    }

    pub(super) fn patient(self) -> Self {
        Self { is_patient: true, ..self }
    }

    pub(super) fn total_memory(&self) -> u64 {
        self.memory.saturating_mul(self.containers as u64)
    }
}
