from hypothesis import settings

settings.register_profile("surefoot", deadline=None)  # a busy machine is no failure
settings.load_profile("surefoot")
