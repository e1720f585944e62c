"""What the gate asks of a call: rules in CEL, guards, versions of the policy, explanations."""
