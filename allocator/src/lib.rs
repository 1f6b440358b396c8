//! Discovery, membership, placement and the assignment API.
