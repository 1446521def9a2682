"""lisrt inside other people's programs: threads, forks, event loops, odd signal and descriptor states."""
