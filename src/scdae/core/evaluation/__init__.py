"""What held-out molecules say and decide: skill, gate, zero inflation."""
