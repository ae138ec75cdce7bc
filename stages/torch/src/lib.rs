//! pipeline-torch.
