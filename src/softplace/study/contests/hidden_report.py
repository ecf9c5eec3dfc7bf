def report(results):
    return results
