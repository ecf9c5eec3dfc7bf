"""The study: plan, fleet, store, statistics, verdict, page."""
